"""Runs, holds, accounts, transfers and charges."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from quotas.store.tables.columns import identity, instant, metadata

runs = Table(
    "runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("person_id", ForeignKey("persons.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("state", String(10), nullable=False),
    Column("door", String(60), nullable=False),
    instant("requested_at"),
    instant("started_at", nullable=True),
    instant("seen_at", nullable=True),
    instant("finished_at", nullable=True),
    Column("outcome", String(20)),
    Column("exit_code", Integer),
    instant("warned_at", nullable=True),
    instant("preempt_at", nullable=True),
    Column("preempted_for", String(36)),
    Index(
        "uq_runs_open_notebook",
        "person_id",
        "project_id",
        unique=True,
        sqlite_where=text("kind = 'notebook' AND state <> 'settled'"),
        postgresql_where=text("kind = 'notebook' AND state <> 'settled'"),
    ),
    Index("ix_runs_project_id", "project_id"),
    sqlite_with_rowid=False,
)

holds = Table(
    "holds",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("allocation_id", ForeignKey("allocations.id"), nullable=False),
    Column("pool_id", ForeignKey("pools.id")),
    Column("device_model", ForeignKey("device_models.code")),
    Column("device_count", Integer, nullable=False),
    Column("card_version", Integer, nullable=False),
    Column("gflops", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    instant("opened_at"),
    instant("until_at"),
    Column("state", String(10), nullable=False),
    instant("closed_at", nullable=True),
    Column("extensions", Integer, nullable=False, server_default=text("0")),
    Column("priority", String(13), nullable=False, server_default=text("'guaranteed'")),
    Column("window_id", ForeignKey("reservation_windows.id")),
    instant("ends_by", nullable=True),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("gflops > 0", name="gflops_positive"),
    Index(
        "ix_holds_open_devices",
        "device_model",
        "pool_id",
        "until_at",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    Index(
        "ix_holds_open",
        "allocation_id",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    sqlite_with_rowid=False,
)

accounts = Table(
    "accounts",
    metadata,
    identity(),
    Column("asset", String(20), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("allocation_id", ForeignKey("allocations.id")),
    Column("balance", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("balance >= 0 OR kind IN ('issuance', 'overrun')", name="balance_not_negative"),
    UniqueConstraint("allocation_id", "kind"),
    Index(
        "uq_accounts_programme",
        "asset",
        "kind",
        unique=True,
        sqlite_where=text("allocation_id IS NULL"),
        postgresql_where=text("allocation_id IS NULL"),
    ),
)

transfers = Table(
    "transfers",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("key", String(80), nullable=False, unique=True),
    Column("kind", String(10), nullable=False),
    Column("debit_account_id", ForeignKey("accounts.id"), nullable=False),
    Column("credit_account_id", ForeignKey("accounts.id"), nullable=False),
    Column("allocation_id", ForeignKey("allocations.id"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("run_id", ForeignKey("runs.id")),
    instant("at"),
    Column("note", Text),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("debit_account_id <> credit_account_id", name="two_accounts"),
    # Of a run there are a handful of transfers, of an award in all: a granted sum is read without the runs'.
    Index(
        "ix_transfers_awarded",
        "allocation_id",
        sqlite_where=text("run_id IS NULL"),
        postgresql_where=text("run_id IS NULL"),
    ),
)

charges = Table(
    "charges",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("allocation_id", ForeignKey("allocations.id"), nullable=False),
    Column("card_version", Integer, nullable=False),
    Column("gflops", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("overrun_amount", BigInteger, nullable=False),
    instant("settled_at"),
    CheckConstraint("amount = gflops * seconds", name="amount_is_rate_by_time"),
    CheckConstraint("overrun_amount >= 0 AND overrun_amount <= amount", name="overrun_within"),
    Index("ix_charges_allocation_id_settled_at", "allocation_id", "settled_at"),
    sqlite_with_rowid=False,
)
