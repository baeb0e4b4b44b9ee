"""Claims what is due, when told to: ``python -m tests.batch.claiming URL NOW``. Several of them race."""

from __future__ import annotations

import json
import sys

from quotas.services import schedules
from quotas.store.database import Database

if __name__ == "__main__":
    database, now = Database(sys.argv[1]), int(sys.argv[2])
    schedules.list_schedules(database)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    claimed = [execution.run_id for _ in range(4) for execution in schedules.claim_due(database, now, limit=5)]
    sys.stdout.write(json.dumps(claimed))
    database.close()
