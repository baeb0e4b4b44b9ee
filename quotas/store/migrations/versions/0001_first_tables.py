"""The first tables, and triggers that keep what is written once from being changed.

Revision 0001, the first. It is frozen once released: a later change is a later revision.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, Index, SchemaItem, UniqueConstraint
from sqlalchemy.sql import text
from sqlalchemy.types import BigInteger, Integer, String, Text

from quotas.store.migrations.append_only import keep_append_only

revision = "0001"
down_revision: str | None = None

APPEND_ONLY = ("transfers", "charges", "rates", "rate_cards", "audit_events")


_NOT_EXPIRED = text("expired_at IS NULL")


def upgrade() -> None:
    """Every table of the first release exists."""
    for create in (_create_people, _create_projects, _create_awards, _create_catalogue, _create_rates_and_pools):
        create()
    for create in (_create_runs, _create_ledger, _create_notebooks, _create_events):
        create()
    keep_append_only(*APPEND_ONLY)


def downgrade() -> None:
    """Refuse: the first tables hold the ledger, which is never dropped."""
    raise RuntimeError("the first revision has nothing before it; remove the database itself instead")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


def _by_key(name: str, *parts: SchemaItem) -> None:
    op.create_table(name, *parts, sqlite_with_rowid=False)


def _create_people() -> None:
    op.create_table(
        "organisations",
        Column("id", Integer, primary_key=True),
        Column("code", String(40), nullable=False, unique=True),
        Column("name_ko", String(200), nullable=False),
        Column("name_en", String(200), nullable=False),
        Column("kind", String(20), nullable=False),
    )
    op.create_table(
        "persons",
        Column("id", Integer, primary_key=True),
        Column("username", String(63), nullable=False, unique=True),
        Column("display_name", String(200), nullable=False),
        Column("organisation_id", Integer, ForeignKey("organisations.id")),
        Column("language", String(2), nullable=False),
        Column("added_at", BigInteger, nullable=False),
    )
    op.create_table(
        "platform_roles",
        Column("person_id", Integer, ForeignKey("persons.id"), primary_key=True),
        Column("role", String(20), primary_key=True),
    )
    op.create_table(
        "credentials",
        Column("person_id", Integer, ForeignKey("persons.id"), primary_key=True),
        Column("scrypt", String(300), nullable=False),
        Column("set_at", BigInteger, nullable=False),
    )


def _create_projects() -> None:
    op.create_table(
        "projects",
        Column("id", Integer, primary_key=True),
        Column("code", String(30), nullable=False, unique=True),
        Column("kind", String(10), nullable=False),
        Column("title_ko", String(300), nullable=False),
        Column("title_en", String(300), nullable=False),
        Column("organisation_id", Integer, ForeignKey("organisations.id"), nullable=False),
        Column("state", String(10), nullable=False),
        Column("requested_gflops", BigInteger, nullable=False),
        Column("requested_precision", String(20), nullable=False),
        Column("requested_starts_at", BigInteger, nullable=False),
        Column("requested_ends_at", BigInteger, nullable=False),
        Column("applied_at", BigInteger, nullable=False),
        Column("applied_by", Integer, ForeignKey("persons.id"), nullable=False),
        Column("decided_at", BigInteger),
        Column("decided_by", String(63)),
        Column("decision_reason", Text),
        Column("ended_at", BigInteger),
        CheckConstraint("requested_gflops > 0", name="requested_positive"),
    )
    _by_key(
        "memberships",
        Column("project_id", Integer, ForeignKey("projects.id"), primary_key=True),
        Column("person_id", Integer, ForeignKey("persons.id"), primary_key=True),
        Column("role", String(20), nullable=False),
        Column("added_at", BigInteger, nullable=False),
        Index("ix_memberships_person_id", "person_id"),
    )


def _create_awards() -> None:
    op.create_table(
        "awards",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False, index=True),
        Column("gflops", BigInteger, nullable=False),
        Column("precision", String(20), nullable=False),
        Column("starts_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Column("burst_ppm", BigInteger, nullable=False),
        Column("utilisation_ppm", BigInteger, nullable=False),
        Column("awarded_at", BigInteger, nullable=False),
        Column("awarded_by", String(63), nullable=False),
        CheckConstraint("gflops > 0", name="gflops_positive"),
        CheckConstraint("ends_at > starts_at", name="ends_after_start"),
    )
    op.create_table(
        "allocations",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
        Column("award_id", Integer, ForeignKey("awards.id"), nullable=False, unique=True),
        Column("asset", String(20), nullable=False),
        Column("starts_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Column("ceiling_gflops", BigInteger, nullable=False),
        Column("in_use_gflops", BigInteger, nullable=False, server_default=text("0")),
        Column("expired_at", BigInteger),
        CheckConstraint("in_use_gflops >= 0", name="in_use_not_negative"),
        CheckConstraint("ceiling_gflops > 0", name="ceiling_positive"),
        CheckConstraint("ends_at > starts_at", name="ends_after_start"),
        UniqueConstraint("project_id", "asset", "starts_at"),
        Index("ix_allocations_ends_at", "ends_at", sqlite_where=_NOT_EXPIRED, postgresql_where=_NOT_EXPIRED),
    )


def _create_catalogue() -> None:
    op.create_table(
        "device_models",
        Column("code", String(40), primary_key=True),
        Column("name", String(200), nullable=False),
        Column("kind", String(10), nullable=False),
        Column("memory_bytes", BigInteger, nullable=False),
        Column("parent", String(40), ForeignKey("device_models.code")),
        Column("units", Integer, nullable=False),
        Column("units_total", Integer, nullable=False),
        CheckConstraint("units > 0 AND units <= units_total", name="units_in_total"),
    )
    op.create_table(
        "capability_facts",
        Column("device_model", String(40), ForeignKey("device_models.code"), primary_key=True),
        Column("precision", String(20), primary_key=True),
        Column("source", String(300), primary_key=True),
        Column("peak_gflops", BigInteger, nullable=False),
        Column("status", String(20), nullable=False),
        CheckConstraint("peak_gflops > 0", name="peak_positive"),
    )
    op.create_table(
        "images",
        Column("code", String(40), primary_key=True),
        Column("reference", String(300), nullable=False),
        Column("title_ko", String(200), nullable=False),
        Column("title_en", String(200), nullable=False),
    )
    op.create_table(
        "profiles",
        Column("id", Integer, primary_key=True),
        Column("code", String(40), nullable=False, unique=True),
        Column("name_ko", String(200), nullable=False),
        Column("name_en", String(200), nullable=False),
        Column("image_code", String(40), ForeignKey("images.code"), nullable=False),
        Column("device_model", String(40), ForeignKey("device_models.code")),
        Column("device_count", Integer, nullable=False),
        Column("cpu_millis", Integer, nullable=False),
        Column("memory_bytes", BigInteger, nullable=False),
        Column("storage_bytes", BigInteger, nullable=False),
        Column("backend_terms", Text, nullable=False),
        Column("position", Integer, nullable=False),
        CheckConstraint("(device_model IS NULL) = (device_count = 0)", name="device_with_count"),
    )
    _by_key(
        "project_profiles",
        Column("project_id", Integer, ForeignKey("projects.id"), primary_key=True),
        Column("profile_id", Integer, ForeignKey("profiles.id"), primary_key=True),
    )


def _create_rates_and_pools() -> None:
    op.create_table(
        "rate_cards",
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("effective_from", BigInteger, nullable=False),
        Column("reference_precision", String(20), nullable=False),
        Column("published_at", BigInteger, nullable=False),
        Column("published_by", String(63), nullable=False),
        UniqueConstraint("effective_from"),
    )
    _by_key(
        "rates",
        Column("version", Integer, ForeignKey("rate_cards.version"), primary_key=True),
        Column("profile_id", Integer, ForeignKey("profiles.id"), primary_key=True),
        Column("gflops", BigInteger, nullable=False),
        Column("rule", String(10), nullable=False),
        Column("reason", Text, nullable=False),
        Column("approver", String(63)),
        CheckConstraint("gflops > 0", name="gflops_positive"),
    )
    op.create_table(
        "pools",
        Column("id", Integer, primary_key=True),
        Column("code", String(40), nullable=False, unique=True),
        Column("name_ko", String(200), nullable=False),
        Column("name_en", String(200), nullable=False),
        Column("simulated", Integer, nullable=False),
    )
    _by_key(
        "capacity_phases",
        Column("pool_id", Integer, ForeignKey("pools.id"), primary_key=True),
        Column("device_model", String(40), ForeignKey("device_models.code"), primary_key=True),
        Column("from_at", BigInteger, primary_key=True),
        Column("installed", Integer, nullable=False),
        Column("powered", Integer, nullable=False),
        Column("healthy", Integer, nullable=False),
        CheckConstraint("0 <= healthy AND healthy <= powered AND powered <= installed", name="sizes_in_order"),
    )
    _by_key(
        "pool_devices",
        Column("device_model", String(40), ForeignKey("device_models.code"), primary_key=True),
        Column("pool_id", Integer, ForeignKey("pools.id"), primary_key=True),
        Column("in_use", Integer, nullable=False, server_default=text("0")),
        CheckConstraint("in_use >= 0", name="in_use_not_negative"),
    )


def _create_runs() -> None:
    _by_key(
        "runs",
        Column("id", String(36), primary_key=True),
        Column("kind", String(10), nullable=False),
        Column("person_id", Integer, ForeignKey("persons.id"), nullable=False),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
        Column("profile_id", Integer, ForeignKey("profiles.id"), nullable=False),
        Column("state", String(10), nullable=False),
        Column("door", String(60), nullable=False),
        Column("requested_at", BigInteger, nullable=False),
        Column("started_at", BigInteger),
        Column("seen_at", BigInteger),
        Column("finished_at", BigInteger),
        Column("outcome", String(20)),
        Column("exit_code", Integer),
        Column("warned_at", BigInteger),
        Index("ix_runs_project_id", "project_id"),
        _partial(
            "uq_runs_open_notebook",
            "person_id",
            "project_id",
            where="kind = 'notebook' AND state <> 'settled'",
            unique=True,
        ),
    )
    _by_key(
        "holds",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("allocation_id", Integer, ForeignKey("allocations.id"), nullable=False),
        Column("pool_id", Integer, ForeignKey("pools.id")),
        Column("device_model", String(40), ForeignKey("device_models.code")),
        Column("device_count", Integer, nullable=False),
        Column("card_version", Integer, nullable=False),
        Column("gflops", BigInteger, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("opened_at", BigInteger, nullable=False),
        Column("until_at", BigInteger, nullable=False),
        Column("state", String(10), nullable=False),
        Column("closed_at", BigInteger),
        Column("extensions", Integer, nullable=False, server_default=text("0")),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("gflops > 0", name="gflops_positive"),
        _partial("ix_holds_open", "allocation_id", where="state = 'open'"),
    )


def _create_ledger() -> None:
    op.create_table(
        "accounts",
        Column("id", Integer, primary_key=True),
        Column("asset", String(20), nullable=False),
        Column("kind", String(10), nullable=False),
        Column("allocation_id", Integer, ForeignKey("allocations.id")),
        Column("balance", BigInteger, nullable=False, server_default=text("0")),
        CheckConstraint("balance >= 0 OR kind IN ('issuance', 'overrun')", name="balance_not_negative"),
        UniqueConstraint("allocation_id", "kind"),
        _partial("uq_accounts_programme", "asset", "kind", where="allocation_id IS NULL", unique=True),
    )
    op.create_table(
        "transfers",
        Column("sequence", Integer, primary_key=True),
        Column("key", String(80), nullable=False, unique=True),
        Column("kind", String(10), nullable=False),
        Column("debit_account_id", Integer, ForeignKey("accounts.id"), nullable=False),
        Column("credit_account_id", Integer, ForeignKey("accounts.id"), nullable=False),
        Column("allocation_id", Integer, ForeignKey("allocations.id"), nullable=False, index=True),
        Column("amount", BigInteger, nullable=False),
        Column("run_id", String(36), ForeignKey("runs.id")),
        Column("at", BigInteger, nullable=False),
        Column("note", Text),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit_account_id <> credit_account_id", name="two_accounts"),
    )
    _by_key(
        "charges",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("allocation_id", Integer, ForeignKey("allocations.id"), nullable=False, index=True),
        Column("card_version", Integer, nullable=False),
        Column("gflops", BigInteger, nullable=False),
        Column("seconds", BigInteger, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("overrun_amount", BigInteger, nullable=False),
        Column("settled_at", BigInteger, nullable=False),
        CheckConstraint("amount = gflops * seconds", name="amount_is_rate_by_time"),
        CheckConstraint("overrun_amount >= 0 AND overrun_amount <= amount", name="overrun_within"),
    )


def _create_notebooks() -> None:
    op.create_table(
        "schedules",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False, index=True),
        Column("person_id", Integer, ForeignKey("persons.id"), nullable=False),
        Column("profile_id", Integer, ForeignKey("profiles.id"), nullable=False),
        Column("title", String(200), nullable=False),
        Column("notebook", String(500), nullable=False),
        Column("parameters", Text, nullable=False),
        Column("zone", String(60), nullable=False),
        Column("cron", String(120)),
        Column("once_at", BigInteger),
        Column("timeout_seconds", BigInteger, nullable=False),
        Column("enabled", Integer, nullable=False),
        Column("pause_reason", Text),
        Column("next_at", BigInteger),
        Column("created_at", BigInteger, nullable=False),
        CheckConstraint("(cron IS NULL) <> (once_at IS NULL)", name="cron_or_once"),
        _partial("ix_schedules_next_at", "next_at", where="enabled = 1"),
    )
    op.create_table(
        "executions",
        Column("run_id", String(36), primary_key=True),
        Column("schedule_id", Integer, ForeignKey("schedules.id"), nullable=False),
        Column("scheduled_for", BigInteger, nullable=False),
        Column("state", String(20), nullable=False),
        Column("reason_ko", Text),
        Column("reason_en", Text),
        Column("notebook_sha256", String(64)),
        Column("parameters", Text, nullable=False),
        Column("output", String(600)),
        Column("exit_code", Integer),
        Column("failing_cell", Text),
        Column("log", Text),
        Column("claimed_at", BigInteger, nullable=False),
        Column("finished_at", BigInteger),
        UniqueConstraint("schedule_id", "scheduled_for"),
        _partial("ix_executions_open", "state", where="finished_at IS NULL"),
    )


def _create_events() -> None:
    op.create_table(
        "notices",
        Column("id", Integer, primary_key=True),
        Column("person_id", Integer, ForeignKey("persons.id"), nullable=False, index=True),
        Column("kind", String(30), nullable=False),
        Column("about", String(80), nullable=False),
        Column("text_ko", Text, nullable=False),
        Column("text_en", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        UniqueConstraint("person_id", "kind", "about"),
    )
    op.create_table(
        "audit_events",
        Column("id", Integer, primary_key=True),
        Column("at", BigInteger, nullable=False),
        Column("actor", String(80), nullable=False),
        Column("action", String(40), nullable=False),
        Column("subject", String(80), nullable=False),
        Column("detail", Text, nullable=False),
    )
    op.create_table(
        "doors",
        Column("name", String(20), primary_key=True),
        Column("instance", String(60), nullable=False),
        Column("booted_at", BigInteger, nullable=False),
    )
