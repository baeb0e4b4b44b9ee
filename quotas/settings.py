"""Every setting, declared once: name, unit, default and sentence. The file is `mudeung.toml` in the home folder."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from quotas.addresses import is_address, is_loopback, is_trustworthy
from quotas.domain.awards import LONGEST_GRACE_DAYS, Programme
from quotas.domain.policy import Policy
from quotas.domain.queue import QueueLimits
from quotas.domain.rates import Precision
from quotas.domain.recalls import RecallPolicy
from quotas.domain.terms_kubernetes_projects import Reach, reach_of
from quotas.domain.units import DAY_SECONDS, PPM, InvalidValue

FILE_NAME = "mudeung.toml"
FILE_VARIABLE = "MUDEUNG_SETTINGS"
"""The environment variable that names the file where it is not in the home folder, as in a cluster."""
CLUSTER_HOST = "0.0.0.0"  # noqa: S104 - a pod has one address, and the cluster's rules say who reaches it
CLUSTER_SLOTS = 64
"""Starts at the same time in a cluster: what they need of the hub's own machine is little."""
Positive = Annotated[int, Field(gt=0, le=10**9)]


class SettingsError(Exception):
    """The settings cannot be taken; the message names file, key and what is expected. Nothing was started."""


class Settings(BaseModel):
    """The platform's settings. Lengths of time are whole seconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=False)

    host: str = Field("127.0.0.1", description="Address that the platform listens on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port that the platform listens on; 0 takes a free one."
    )
    backend: Literal["local", "docker", "kubernetes"] = Field(
        "local", description="Where servers and batch runs are started."
    )
    language: Literal["ko", "en"] = Field("ko", description="Language of pages before anyone has logged in.")
    public_url: str = Field(
        "",
        description="Address at which people reach the platform, such as https://gpu.example.org; empty: as their"
        " browsers say it. With https, cookies are sent over TLS only.",
    )
    login: Literal["password", "oidc"] = Field(
        "password",
        description="How people log in: with the passwords of an evaluation platform, or at an identity provider by"
        " OpenID Connect (docs/login.md).",
    )
    oidc_issuer: str = Field("", description="Address of the identity provider, as its discovery document says it.")
    oidc_client_id: str = Field(
        "", description="The platform's name at the identity provider; its secret is `oidc_client_secret`."
    )
    oidc_scopes: tuple[str, ...] = Field(
        ("openid", "profile"), strict=False, description="Scopes that the identity provider is asked for."
    )
    oidc_username_claim: Annotated[str, Field(min_length=1)] = Field(
        "preferred_username", description="Claim that says the person's name in the ledger."
    )
    oidc_admit_unknown: bool = Field(
        False,
        description="Whether someone unknown is entered into the ledger at the first login; without a project they may"
        " do nothing.",
    )
    oidc_end_session: bool = Field(
        False, description="Whether who logs out here is logged out at the identity provider as well."
    )
    oidc_ca: str = Field(
        "", description="File with the certificates that the identity provider is trusted by; empty: the system's."
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL of the ledger; empty is SQLite in the home folder.", examples=["postgresql://…"]
    )
    evaluation: bool = Field(
        True,
        description="Load example data into an empty ledger and let accounts log in with passwords made at the first"
        " start. Such a platform listens on loopback addresses only. In a cluster it is false unless it is set.",
    )
    reference_precision: Precision = Field(
        Precision.FP32,
        strict=False,
        description="Precision in which the programme counts awards; the operator confirms it.",
    )
    oversubscription_limit_ppm: Positive = Field(
        1_500_000, description="Sum of awards that may be approved, in millionths of the powered capacity."
    )
    storage_grace_days: Annotated[int, Field(ge=0, le=LONGEST_GRACE_DAYS)] = Field(
        30, description="Days for which a project's files are kept after the end of an award that is given from now on."
    )
    hold_seconds: Positive = Field(1800, description="Length of a notebook's rolling hold.")
    stop_margin_seconds: Positive = Field(120, description="How long before the end of its hold a server is stopped.")
    extend_below_seconds: Positive = Field(1320, description="A hold with less left than this is extended.")
    minimum_session_seconds: Positive = Field(600, description="A server whose first hold would be shorter is refused.")
    borrow_limit_ppm: Annotated[int, Field(ge=0, le=10**9)] = Field(
        PPM, description="What a project may borrow of idle devices beyond its ceiling, in millionths of the ceiling."
    )
    borrow_minimum_seconds: Annotated[int, Field(ge=0, le=10**9)] = Field(
        1800, description="How long borrowed devices are kept before they may be wanted back."
    )
    preempt_notice_seconds: Positive = Field(
        300, description="How long before they are stopped those are told whose borrowed devices are wanted back."
    )
    seats_early_seconds: Annotated[int, Field(ge=0, le=10**9)] = Field(
        600, description="How long before a reservation's window begins its seats are kept, and can be claimed."
    )
    seats_release_seconds: Positive = Field(
        900, description="How long after the beginning of a reservation's window unclaimed seats are released."
    )
    idle_notice_seconds: Positive = Field(
        600, description="How long before it is stopped the person of an idle server is told; it is part of the limit."
    )
    loss_grace_seconds: Positive = Field(
        900, description="How long a run that lost a device goes on, uncharged, so that work can be saved."
    )
    node_silence_seconds: Positive = Field(
        180,
        description="After so long without a report of its agent a machine is shown as silent, and operators are told.",
    )
    reconcile_seconds: Positive = Field(20, description="Pause between two ticks of the reconciling loop.")
    idleness_seconds: Positive = Field(60, description="Pause between two looks for idle servers.")
    schedule_seconds: Positive = Field(5, description="Pause between two looks for due schedules.")
    start_timeout_seconds: Positive = Field(
        600, description="How long a start may take, its turn among other starts included."
    )
    start_slots: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="Servers that start at the same time; 0 is two more than the processor cores, and in a cluster,"
        " whose machines start them, 64.",
    )
    max_batch_runs: Positive = Field(
        4,
        description="Batch runs that run at the same time on this machine; those whose turn in the queue has come are"
        " started beyond it, as their devices are held.",
    )
    kubernetes_namespace: str = Field("mudeung", description="The platform's own namespace in a cluster.")
    kubernetes_namespace_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,29}$")] = Field(
        "mudeung-", description="What the name of a project's namespace begins with; the project's code follows."
    )
    kubernetes_storage_class: str = Field(
        "", description="Storage class of the volumes of homes and projects; empty is the cluster's default."
    )
    kubernetes_home_bytes: Annotated[int, Field(gt=0, le=2**60)] = Field(
        10 * 2**30, description="Size of the volume of a person's own files in a project's namespace."
    )
    kubernetes_project_bytes: Annotated[int, Field(gt=0, le=2**60)] = Field(
        100 * 2**30, description="Size of the volume of a project's files."
    )
    kubernetes_files_claim: str = Field(
        "",
        description="Claim of the volume that the platform's home folder is on, of which projects see their folders;"
        " empty: each project has a volume of its own, which the platform does not see.",
    )
    kubernetes_queue: str = Field(
        "", description="Local queue of Kueue that batch runs are put in; empty: the cluster has no Kueue."
    )
    kubernetes_cluster_queue: str = Field(
        "",
        description="Cluster queue of Kueue behind the local queue that the platform makes in each project's namespace;"
        " empty: somebody else makes the local queues.",
    )
    kubernetes_reachable_cidrs: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Private addresses (CIDR) that servers and batch runs reach all the same, such as a data server's"
        " or a mirror's of packages.",
    )
    kubernetes_unreachable_cidrs: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Addresses (CIDR) that servers and batch runs do not reach although they are not private, such as"
        " public ones of the cluster's machines; or a part of what kubernetes_reachable_cidrs names.",
    )
    kubernetes_internet: bool = Field(
        True, description="Whether servers and batch runs reach every address that is not private."
    )
    kubernetes_priority_classes: bool = Field(
        False, description="Whether pods name one of the two priority classes of the chart."
    )

    queue_seconds: Positive = Field(3, description="Pause between two looks at the waiting queue.")
    queue_limit_seconds: Positive = Field(86_400, description="How long an entry may wait in the queue.")
    queue_entries_per_person: Positive = Field(5, description="Entries of one person that may wait at the same time.")
    offer_seconds: Positive = Field(600, description="How long devices are kept for a person whose turn has come.")

    recall_automatic: bool = Field(
        True, description="Recalls of what awards do not use are proposed each month; false: only by an operator."
    )
    recall_threshold_ppm: Annotated[int, Field(ge=0, le=10**6)] = Field(
        300_000, description="Use of a month below this part of the award's share of it counts as too little."
    )
    recall_months: Annotated[int, Field(ge=1, le=24)] = Field(
        2, description="So many whole months in a row must have too little use before a recall is proposed."
    )
    recall_share_ppm: Annotated[int, Field(gt=0, le=10**6)] = Field(
        500_000, description="Part of what these months left unused that is proposed for recall."
    )
    recall_objection_days: Annotated[int, Field(ge=1, le=365)] = Field(
        14, description="Days within which a PI may object to a recall."
    )
    recall_exempts_courses: bool = Field(True, description="Awards of courses, unused between terms, are not recalled.")
    recall_wait_limit_seconds: Positive = Field(
        36_000, description="A month in which a project's people waited longer together for full pools does not count."
    )

    @model_validator(mode="before")
    @classmethod
    def evaluation_is_chosen_in_a_cluster(cls, values: object) -> object:
        """A cluster's platform is reached by others than its owner, so that its accounts are never a default."""
        if isinstance(values, dict) and values.get("backend") == "kubernetes":
            return {"evaluation": False, "host": CLUSTER_HOST, **values}
        return values

    @model_validator(mode="after")
    def lengths_fit(self) -> Settings:
        """A hold is longer than its margin, and is extended before the margin begins."""
        if self.extend_below_seconds >= self.hold_seconds + self.stop_margin_seconds:
            raise ValueError("extend_below_seconds must be below hold_seconds + stop_margin_seconds")
        if self.extend_below_seconds <= self.stop_margin_seconds:
            raise ValueError("extend_below_seconds must be above stop_margin_seconds")
        if self.minimum_session_seconds > self.hold_seconds + self.stop_margin_seconds:
            raise ValueError("minimum_session_seconds must be at most hold_seconds + stop_margin_seconds")
        if self.preempt_notice_seconds > self.extend_below_seconds - self.stop_margin_seconds:
            # What runs on borrowed devices is paid for to the end of the notice, whenever it comes.
            raise ValueError("preempt_notice_seconds must be at most extend_below_seconds - stop_margin_seconds")
        return self

    @model_validator(mode="after")
    def the_provider_is_known(self) -> Settings:
        """Nobody is let in by an address that another could answer at."""
        if self.public_url and not is_address(self.public_url):
            raise ValueError("public_url must be an address such as https://gpu.example.org, without a path")
        if self.login != "oidc":
            return self
        if self.evaluation:
            raise ValueError('login = "oidc" needs evaluation = false: its accounts have passwords')
        if not is_trustworthy(self.oidc_issuer) or set("?#") & set(self.oidc_issuer):
            raise ValueError('login = "oidc" needs oidc_issuer, an https address (http on a loopback address only)')
        if not self.oidc_client_id:
            raise ValueError('login = "oidc" needs oidc_client_id')
        if "openid" not in self.oidc_scopes:
            raise ValueError("oidc_scopes must have openid in it")
        return self

    @model_validator(mode="after")
    def evaluation_stays_on_this_machine(self) -> Settings:
        """Accounts whose passwords are printed at the first start are reached from this machine only.

        In a cluster they were asked for by name, and the chart lets nobody in from outside beside a forwarded port.
        """
        if self.evaluation and not self.passwords():
            raise ValueError(
                f"host = {self.host!r} is no loopback address (127.0.0.1, ::1, localhost), and with evaluation = true"
                " the platform listens on no other"
            )
        return self

    @model_validator(mode="after")
    def addresses_are_networks(self) -> Settings:
        """What pods may reach is known before the first of them starts."""
        try:
            self.reach()
        except InvalidValue as invalid:
            raise ValueError(str(invalid)) from None
        return self

    def reach(self) -> Reach:
        """Return whom servers and batch runs on a cluster reach. Raises InvalidValue for an address that is none."""
        return reach_of(self.kubernetes_reachable_cidrs, self.kubernetes_unreachable_cidrs, self.kubernetes_internet)

    def passwords(self) -> bool:
        """Return whether the accounts of an evaluation platform may log in with their passwords."""
        return self.evaluation and self.login == "password" and (self.backend == "kubernetes" or is_loopback(self.host))

    def policy(self) -> Policy:
        """Return the lengths that the engine's decisions use."""
        return Policy(
            hold=self.hold_seconds,
            stop_margin=self.stop_margin_seconds,
            extend_below=self.extend_below_seconds,
            minimum=self.minimum_session_seconds,
            borrow_limit_ppm=self.borrow_limit_ppm,
            borrow_minimum=self.borrow_minimum_seconds,
            preempt_notice=self.preempt_notice_seconds,
            offer=self.offer_seconds,
            seats_early=self.seats_early_seconds,
            seats_release=self.seats_release_seconds,
            idle_notice=self.idle_notice_seconds,
            loss_grace=self.loss_grace_seconds,
            node_silence=self.node_silence_seconds,
        )

    def queue_limits(self) -> QueueLimits:
        """Return how long, and in how many places, someone may wait."""
        return QueueLimits(self.queue_limit_seconds, self.queue_entries_per_person)

    def programme(self, *, consent: bool = False) -> Programme:
        """Return what is set for every award that is given or changed; `consent`: also above the limit."""
        return Programme(
            self.reference_precision.value, self.oversubscription_limit_ppm, self.storage_grace_days, consent
        )

    def recalls(self) -> RecallPolicy:
        """Return when an award counts as used too little, and what follows."""
        return RecallPolicy(
            self.recall_threshold_ppm,
            self.recall_months,
            self.recall_share_ppm,
            self.recall_objection_days * DAY_SECONDS,
            self.recall_exempts_courses,
            self.recall_wait_limit_seconds,
            self.recall_automatic,
        )

    def slots(self) -> int:
        """Return how many servers start at the same time."""
        return self.start_slots or (CLUSTER_SLOTS if self.backend == "kubernetes" else (os.cpu_count() or 1) + 2)


def read(home: Path, **overrides: object) -> Settings:
    """Return the settings of `home`, the file's values under the `overrides` that are not None.

    The file is the one that `MUDEUNG_SETTINGS` names, or the home's; one that is named has to be there.
    Raises SettingsError for a file that is no TOML, an unknown key, a wrong type or a value out of range.
    """
    named = os.environ.get(FILE_VARIABLE)
    path = Path(named) if named else home / FILE_NAME
    values: dict[str, object] = {}
    if named or path.exists():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{FILE_VARIABLE}: {error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not a TOML file: {error}") from None
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, problem) for problem in error.errors())) from None


def _explain(path: Path, problem: object) -> str:
    if not isinstance(problem, dict):  # pragma: no cover - pydantic gives mappings
        return f"{path}: {problem}"
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{path}: {key}: unknown key; expected one of: {', '.join(sorted(Settings.model_fields))}"
    if not key:
        return f"{path}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{path}: {key} = {problem['input']!r}: {problem['msg']}; expected: {Settings.model_fields[key].description}"


def database_url(settings: Settings, home: Path) -> str:
    """Return the ledger's URL: the setting, or SQLite in the home folder."""
    return settings.database_url or f"sqlite:///{home / 'ledger.sqlite'}"
