"""The platform's reconciling loop, or its portal, beside a hub outside the cluster: ``BENCH_HUB`` says where."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

import uvicorn

from portal.app import create_app
from quotas.home import from_environment
from quotas.services import periodic
from quotas.services.reconciliation import Reconciler
from spawners.hub_door import Hub
from spawners.reconciler import START_MARGIN_SECONDS, once


def main() -> None:
    """Be the program that is named, for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    told = json.loads(os.environ["BENCH_HUB"])
    if sys.argv[1:] == ["portal"]:
        app = create_app(from_environment())
        uvicorn.run(app, host="127.0.0.1", port=told["portal"], log_config=None, access_log=False)
    else:
        go_round(told)


def go_round(told: dict[str, Any]) -> None:
    """Go round as the installed loop does."""
    home = from_environment()
    settings = home.settings
    loop = Reconciler(
        database=home.database(),
        backend=home.backend(),
        hub=Hub(f"http://127.0.0.1:{told['hub']}", home.secret("reconciler_token")),
        policy=settings.policy(),
        start_limit_seconds=settings.start_timeout_seconds + START_MARGIN_SECONDS,
    )
    jobs = periodic.jobs(settings.recalls())
    while True:
        once(loop, jobs)
        time.sleep(settings.reconcile_seconds)


if __name__ == "__main__":
    main()
