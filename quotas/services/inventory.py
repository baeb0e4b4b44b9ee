"""What machines have: their reports are taken, each once, and devices are matched with the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from quotas.domain.inventory import AFTER_RELEASE, GONE_REASON, Cleaning, DeviceState, Loss, is_recent
from quotas.domain.node_reports import Answer, DeviceKind, FoundDevice, Report
from quotas.domain.policy import Policy
from quotas.domain.products import expected_model
from quotas.domain.rates import DeviceModel
from quotas.domain.units import HOUR_SECONDS, InvalidValue
from quotas.services import cleaning, cluster_devices, device_health, machine_capacity, metering
from quotas.services import device_texts as texts
from quotas.services.cluster_devices import Told
from quotas.services.device_health import Lost
from quotas.services.nodes import digest
from quotas.services.people import unknown
from quotas.store import audit, grants
from quotas.store import devices as store
from quotas.store import nodes as nodes_store
from quotas.store import profiles as profiles_store
from quotas.store.database import Database, Row, Transaction

log = logging.getLogger("mudeung.inventory")

LIST_AGAIN_SECONDS = HOUR_SECONDS
"""After so long a machine is asked for its devices though it said of no change."""
USUAL = Policy()


class UnknownToken(Exception):  # noqa: N818 - named for what it is
    """The token is of no machine, or of one that was removed."""


def is_known(database: Database, token: str) -> bool:
    """Return whether the token is a machine's."""
    with database.read() as transaction:
        return nodes_store.by_token(transaction, digest(token)) is not None


def take_report(
    database: Database, token: str, report: Report, now: int, policy: Policy = USUAL, *, prefix: str = "mudeung-"
) -> Answer:
    """Everything in the report is stored, once; return what the agent is to do.

    A report whose number, or a later one, was taken before changes nothing. A new stream may begin at any number. What
    is of an unknown device, older than two days or from the future is left aside. On a cluster `prefix` is what the
    namespaces of its projects begin with. Raises UnknownToken.
    """
    with database.write() as transaction:
        node = nodes_store.by_token(transaction, digest(token))
        if node is None:
            raise UnknownToken
        accepted = report.sequence
        if nodes_store.take(transaction, node.id, report, now):
            _take(transaction, node, report, now, policy, prefix)
        else:
            accepted = nodes_store.last_sequence(transaction, node.id, report.stream)
        listed_at = store.listed_at(transaction, node.id)
        stale = listed_at is None or now - listed_at > LIST_AGAIN_SECONDS
        return Answer(
            accepted,
            scrub=store.to_scrub(transaction, node.id),
            send_devices=report.devices is None and (stale or report.stream != node.stream),
        )


def _take(transaction: Transaction, node: Row, report: Report, now: int, policy: Policy, prefix: str) -> None:
    found = {each.uuid: each for each in report.devices or ()}
    if report.devices is not None:
        _Listing(transaction, node, found, now).take()
    if report.pods is not None and not node.assigns and is_recent(report.at, now):
        cluster_devices.take(transaction, node, Told(report.pods, min(report.at, now), prefix), now, policy)
    for event in sorted(report.events, key=lambda each: each.at):
        device = store.by_uuid(transaction, event.uuid)
        if device is not None and device.node_id == node.id and is_recent(event.at, now):
            device_health.take_event(transaction, device, replace(event, at=min(event.at, now)), now, policy)
    if report.devices is not None:
        _health(transaction, node, found, min(report.at, now) if is_recent(report.at, now) else now, now, policy)
    cleaning.take(transaction, node.id, [each for each in report.cleaned if is_recent(each.at, now)], now)
    metering.take(transaction, node.id, [each for each in report.samples if is_recent(each.at, now)], now)
    if report.devices is not None:
        machine_capacity.follow(transaction, node.pool_id, node.pool, now)


@dataclass
class _Listing:
    """A machine's list of its devices, as it is taken."""

    transaction: Transaction
    node: Row
    found: Mapping[str, FoundDevice]
    now: int

    def take(self) -> None:
        """Each found device is stored as it is, and each that the list has not is noted as missing from it."""
        models = {model.code: model for model in profiles_store.device_model_list(self.transaction)}
        known = {row.uuid: row for row in store.of_node(self.transaction, self.node.id)}
        new_parents = set()
        for each in self.found.values():
            row = known.get(each.uuid) or store.by_uuid(self.transaction, each.uuid)
            if row is None:
                row = self._add(each)
            elif row.node_id != self.node.id and not self._move(row):
                continue
            elif row.state == DeviceState.RETIRED.value:
                self._use_again(row)
            else:
                self._note(row, each)
                self._match(row.id, each, models)
                continue
            new_parents.add(each.parent_uuid)
            self._note(store.by_id(self.transaction, row.id), each)
            self._match(row.id, each, models)
        for row in known.values():
            if row.uuid not in self.found and row.state != DeviceState.RETIRED.value:
                self._missing(row, new_parents)

    def _add(self, found: FoundDevice) -> Row:
        device = store.add(self.transaction, self.node.id, found, None, self.now)
        detail = {"device": found.uuid, "name": found.name[:100], "profile": found.mig_profile}
        audit.record(self.transaction, self.now, machine_capacity.ACTOR, "device found", self.node.name, detail)
        return store.by_id(self.transaction, device)

    def _move(self, row: Row) -> bool:
        """A card was put into this machine; return False where another machine still has it, or a run holds it."""
        elsewhere = row.state != DeviceState.RETIRED.value and row.listed
        if elsewhere or grants.holder(self.transaction, row.id) is not None:
            log.warning("%s reports %s, which is of %s", self.node.name, row.uuid, row.node)
            return False
        store.set_state(self.transaction, row, DeviceState.RETIRED, self.now)
        machine_capacity.follow(self.transaction, row.pool_id, row.pool, self.now)
        store.change(self.transaction, row.id, {"node_id": self.node.id})
        self._use_again(store.by_id(self.transaction, row.id))
        return True

    def _use_again(self, row: Row) -> None:
        """What the platform did not look after for a while is cleaned before it is used."""
        if row.device_model is not None:
            store.must_be_counted(self.transaction, row.pool_id, row.device_model)
        store.set_state(self.transaction, row, AFTER_RELEASE[Cleaning(row.cleaning)], self.now)
        detail = {"device": row.uuid}
        audit.record(self.transaction, self.now, machine_capacity.ACTOR, "device found again", self.node.name, detail)

    def _note(self, row: Row, found: FoundDevice) -> None:
        values = store.facts_of(found)
        changed = {name: value for name, value in values.items() if getattr(row, name) != value}
        store.change(self.transaction, row.id, {"seen_at": self.now, "listed": 1, **changed})

    def _match(self, device: int, found: FoundDevice, models: Mapping[str, DeviceModel]) -> None:
        """A device without a model has that of the catalogue, where it has one; what operators matched stays so."""
        code = expected_model(found)
        row = store.by_id(self.transaction, device)
        if row.device_model is None and code is not None and code in models:
            match_in(self.transaction, row, models[code], self.now)

    def _missing(self, row: Row, new_parents: set[str | None]) -> None:
        """A GPU that was cut, and slices that were cut otherwise, are no more; anything else that is missing is gone.

        What a run holds is gone, too, until that has ended.
        """
        store.change(self.transaction, row.id, {"listed": 0})
        is_cut = any(each.parent_uuid == row.uuid for each in self.found.values())
        is_cut_anew = row.parent_uuid is not None and (row.parent_uuid in self.found or row.parent_uuid in new_parents)
        if (is_cut or is_cut_anew) and grants.holder(self.transaction, row.id) is None:
            store.set_state(self.transaction, row, DeviceState.RETIRED, self.now)
            detail = {"device": row.uuid, "reason": "cut"}
            audit.record(self.transaction, self.now, machine_capacity.ACTOR, "device retired", self.node.name, detail)


def _health(
    transaction: Transaction, node: Row, found: Mapping[str, FoundDevice], at: float, now: int, policy: Policy
) -> None:
    """What the list has not, or has with a problem, is lost; what it has without one is not gone any more."""
    for row in store.of_node(transaction, node.id):
        listed = found.get(row.uuid)
        if listed is None and not row.listed:
            device_health.lose(transaction, row, Lost(Loss.GONE, GONE_REASON, at), now, policy)
        elif listed is not None and listed.problem:
            device_health.lose(transaction, row, Lost(Loss.GONE, listed.problem[:200], at), now, policy)
        elif listed is not None:
            device_health.back(transaction, row, at, now)


def match_in(transaction: Transaction, row: Row, model: DeviceModel, now: int) -> None:
    """The device is of the model, and its pool counts it so, as far as it is out of use; phases follow later."""
    out_of_use = DeviceState(row.state) not in {DeviceState.AVAILABLE, DeviceState.RETIRED}
    if out_of_use and row.device_model is not None:
        grants.count_out(transaction, row.pool_id, row.device_model, -1)
    store.must_be_counted(transaction, row.pool_id, model.code)
    if out_of_use:
        grants.count_out(transaction, row.pool_id, model.code, 1)
    store.change(transaction, row.id, {"device_model": model.code})
    if row.kind == DeviceKind.MIG.value and row.units is not None and row.units != model.units:
        device = store.by_id(transaction, row.id)
        words = texts.operators_of_units(device, row.units, model.units)
        about = f"{model.code}:{row.units}"
        device_health.tell_operators(transaction, "slice differs", about, words, now)
        detail = {"device": row.uuid, "found": row.units, "catalogue": model.units}
        audit.record(transaction, now, machine_capacity.ACTOR, "slice differs", model.code, detail)


def match(database: Database, uuid: str, device_model: str, *, actor: str, now: int) -> str:
    """The device is of the model, whatever its name says; return its UUID.

    Raises InvalidValue for an unknown device or model, one that is retired, and one that a run holds.
    """
    with database.write() as transaction:
        row = cleaning.find(transaction, uuid)
        models = {model.code: model for model in profiles_store.device_model_list(transaction)}
        if device_model not in models:
            raise unknown("device_model", device_model)
        holder = grants.holder(transaction, row.id)
        if holder is not None or row.state == DeviceState.RETIRED.value:
            by = "retired" if holder is None else f"held by run {holder.id}"
            raise InvalidValue("device", f"{row.uuid} is {by}", f"{row.uuid}: 제외되었거나 사용 중인 장치입니다")
        match_in(transaction, row, models[device_model], now)
        machine_capacity.follow(transaction, row.pool_id, row.pool, now)
        detail = {"device": row.uuid, "was": row.device_model, "is": device_model}
        audit.record(transaction, now, actor, "device matched", row.node, detail)
        return str(row.uuid)


@dataclass(frozen=True)
class DeviceView:
    """A device with its place, its state, who holds it and its newest reading. Instants in seconds UTC.

    `device_model` is None for one that the catalogue does not know; `model_units` are the multiprocessors that the
    catalogue has for it. `reason` is in English, `reason_ko` in Korean.
    """

    uuid: str
    node: str
    pool: str
    kind: str
    name: str
    device_model: str | None
    memory_bytes: int
    position: int
    mig_profile: str | None
    parent_uuid: str | None
    units: int | None
    model_units: int | None
    ecc: bool | None
    state: DeviceState
    since: int
    reason: str
    reason_ko: str
    after_run: bool
    listed: bool
    run_id: str | None
    person: str | None
    project: str | None
    read_at: int | None
    busy_ppm: int | None
    used_bytes: int | None
    power_milliwatts: int | None

    @property
    def units_differ(self) -> bool:
        """Whether it is a slice of another size than the catalogue says."""
        return (
            self.kind == DeviceKind.MIG.value
            and None not in {self.units, self.model_units}
            and (self.units != self.model_units)
        )

    def why(self, language: str) -> str:
        return self.reason_ko if language == "ko" else self.reason


def devices(database: Database, *, retired: bool = False) -> list[DeviceView]:
    """Return every device of every machine by pool, machine and position; `retired`: also those that are no more."""
    with database.read() as transaction:
        return [_view(row) for row in store.views(transaction, retired=retired)]


def _view(row: Row) -> DeviceView:
    why = texts.why(row.reason or row.hold_back)
    same = {
        name: getattr(row, name)
        for name in DeviceView.__dataclass_fields__
        if name not in {"state", "reason", "reason_ko", "after_run", "listed", "ecc"}
    }
    return DeviceView(
        **same,
        state=DeviceState(row.state),
        reason=why.english,
        reason_ko=why.korean,
        after_run=row.hold_back is not None,
        listed=bool(row.listed),
        ecc=None if row.ecc is None else bool(row.ecc),
    )


@dataclass(frozen=True)
class EventView:
    """What befell a device, and the run that held it then."""

    at: int
    node: str
    uuid: str
    kind: str
    code: int | None
    text: str
    run_id: str | None


def events(database: Database, limit: int, uuid: str | None = None) -> list[EventView]:
    """Return the newest events, newest first, of one device or of all. Raises InvalidValue for an unknown device."""
    with database.read() as transaction:
        device = None if uuid is None else cleaning.find(transaction, uuid).id
        rows: Iterable[Row] = store.events(transaction, limit, device)
        return [EventView(row.at, row.node, row.uuid, row.kind, row.code, row.text, row.run_id) for row in rows]
