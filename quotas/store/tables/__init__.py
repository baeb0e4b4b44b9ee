"""The tables. Amounts are GFLOPS·s, rates GFLOPS, instants whole seconds UTC; flags are 0 or 1.

Where `sqlite_with_rowid` is False, SQLite keeps the rows in their primary key's own tree, not in a second one beside
it: an admission reads and writes these tables, and has fewer pages to write.
"""

from quotas.store.tables.awards import award_changes, award_suspensions, outcome_reports, renewals, tranches
from quotas.store.tables.columns import metadata
from quotas.store.tables.copayments import copayment_lines, copayment_statements, rate_card_drafts
from quotas.store.tables.devices import (
    device_events,
    device_grants,
    devices,
    meter_hours,
    nodes,
    project_meters,
    run_activity,
    run_pauses,
)
from quotas.store.tables.ledger import accounts, charges, holds, runs, transfers
from quotas.store.tables.notebooks import audit_events, doors, executions, notices, schedules
from quotas.store.tables.people import (
    allocations,
    awards,
    credentials,
    identities,
    memberships,
    organisations,
    persons,
    platform_roles,
    projects,
)
from quotas.store.tables.queue import drains, queue_entries
from quotas.store.tables.recalls import award_notices, award_watches, periodic_jobs, recall_months, recalls
from quotas.store.tables.reservations import reservation_roster, reservation_windows, reservations
from quotas.store.tables.supply import (
    capability_facts,
    capacity_phases,
    device_models,
    images,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    rate_cards,
    rates,
)

__all__ = [
    "accounts",
    "allocations",
    "audit_events",
    "award_changes",
    "award_notices",
    "award_suspensions",
    "award_watches",
    "awards",
    "capability_facts",
    "capacity_phases",
    "charges",
    "copayment_lines",
    "copayment_statements",
    "credentials",
    "device_events",
    "device_grants",
    "device_models",
    "devices",
    "doors",
    "drains",
    "executions",
    "holds",
    "identities",
    "images",
    "memberships",
    "metadata",
    "meter_hours",
    "nodes",
    "notices",
    "organisations",
    "outcome_reports",
    "periodic_jobs",
    "persons",
    "platform_roles",
    "pool_devices",
    "pools",
    "profiles",
    "project_meters",
    "project_profiles",
    "projects",
    "queue_entries",
    "rate_card_drafts",
    "rate_cards",
    "rates",
    "recall_months",
    "recalls",
    "renewals",
    "reservation_roster",
    "reservation_windows",
    "reservations",
    "run_activity",
    "run_pauses",
    "runs",
    "schedules",
    "tranches",
    "transfers",
]
