"""The platform's reconciling loop beside a hub outside the cluster, whose addresses ``BENCH_HUB`` says."""

from __future__ import annotations

import json
import logging
import os
import time

from quotas.home import from_environment
from quotas.services import periodic
from quotas.services.reconciliation import Reconciler
from spawners.hub_door import Hub
from spawners.reconciler import START_MARGIN_SECONDS, once


def main() -> None:
    """Go round for ever, as the installed loop does."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home, told = from_environment(), json.loads(os.environ["BENCH_HUB"])
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
