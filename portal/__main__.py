"""``python -m portal``: the portal of the home that ``MUDEUNG_HOME`` names, on its loopback port."""

from __future__ import annotations

import logging
import sys

import uvicorn

from portal.app import create_app
from quotas import home as homes
from quotas.settings import SettingsError

CONNECTIONS = 200
END_SECONDS = 5


def main() -> int:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        home = homes.from_environment()
    except (SettingsError, KeyError) as error:
        sys.stderr.write(f"set {homes.VARIABLE}\n" if isinstance(error, KeyError) else f"{error}\n")
        return 2
    uvicorn.run(
        create_app(home),
        host="127.0.0.1",
        port=home.ports()["portal"],
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=END_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
