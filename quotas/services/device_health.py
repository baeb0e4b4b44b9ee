"""What befalls a device: it is taken out of use, its run's charge is paused, people are told; and it comes back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from quotas.domain.inventory import (
    AFTER_RELEASE,
    ECC_REASON,
    GONE_REASON,
    TAKEN_REASON,
    XID_REASON,
    Cleaning,
    DeviceState,
    Loss,
)
from quotas.domain.node_reports import DeviceEvent, EventKind
from quotas.domain.policy import Policy
from quotas.domain.units import DAY_SECONDS, show_instant
from quotas.domain.xids import Fault, Xid, xid
from quotas.services import device_texts as texts
from quotas.store import audit, grants, notices
from quotas.store import devices as store
from quotas.store import nodes as nodes_store
from quotas.store import runs as runs_store
from quotas.store.database import Database, Row, Transaction


@dataclass(frozen=True)
class Lost:
    """How a device was lost, at `at` (seconds UTC); `reason` as :func:`quotas.services.device_texts.why` reads it."""

    loss: Loss
    reason: str
    at: float


def take_event(transaction: Transaction, device: Row, event: DeviceEvent, now: int, policy: Policy) -> None:
    """The event is stored with the run that holds the device, and what follows from it is done. `device` is as read."""
    if device.state == DeviceState.RETIRED.value:
        return
    holder = grants.holder(transaction, device.id)
    store.add_event(transaction, device.id, event, None if holder is None else holder.id)
    _FOLLOWS[event.kind](transaction, device, event, now, policy)


def _by_xid(transaction: Transaction, device: Row, event: DeviceEvent, now: int, policy: Policy) -> None:
    known = xid(event.code)
    if known.fault is Fault.DEVICE:
        loss = Loss.FAULT if known.resets else Loss.GONE
        lose(transaction, device, Lost(loss, f"{XID_REASON}{known.number}", event.at), now, policy)
    elif known.fault is Fault.APPLICATION:
        _tell_of_own_error(transaction, device, known, now)
    else:
        about = f"{device.id}:{known.number}:{now // DAY_SECONDS}"
        tell_operators(transaction, "device error", about, texts.unknown_error(device, event), now)


def _by_loss(transaction: Transaction, device: Row, event: DeviceEvent, now: int, policy: Policy) -> None:
    lose(transaction, device, Lost(Loss.GONE, event.text[:200] or GONE_REASON, event.at), now, policy)


def _by_return(transaction: Transaction, device: Row, event: DeviceEvent, now: int, _policy: Policy) -> None:
    back(transaction, device, event.at, now)


def _by_ecc(transaction: Transaction, device: Row, event: DeviceEvent, now: int, _policy: Policy) -> None:
    hold_back(transaction, device, f"{ECC_REASON}{event.code or 1}", now)


_FOLLOWS: dict[EventKind, Callable[[Transaction, Row, DeviceEvent, int, Policy], None]] = {
    EventKind.XID: _by_xid,
    EventKind.LOST: _by_loss,
    EventKind.BACK: _by_return,
    EventKind.ECC: _by_ecc,
}


def lose(transaction: Transaction, device: Row, lost: Lost, now: int, policy: Policy) -> bool:
    """The device is lost, and whoever holds it is charged no more since; return whether it was not lost before.

    Of two reasons the one counts that needs an operator. What is quarantined stays so.
    """
    if device.state == DeviceState.LOST.value:
        worse = lost.loss is Loss.FAULT and device.loss != Loss.FAULT.value
        if worse or (lost.loss is Loss.GONE and device.loss == Loss.TAKEN.value):
            store.set_loss(transaction, device.id, lost.loss, lost.reason)
        return False
    if device.state in {DeviceState.RETIRED.value, DeviceState.QUARANTINED.value}:
        return False
    store.set_state(transaction, device, DeviceState.LOST, now, reason=lost.reason, loss=lost.loss)
    holder = grants.holder(transaction, device.id)
    run_id = None if holder is None else holder.id
    detail = {"device": device.uuid, "reason": lost.reason, "loss": lost.loss.value, "run": run_id}
    audit.record(transaction, now, "platform", "device lost", device.node, detail)
    text = texts.operators_of_loss(device, lost.reason, lost.loss, holder)
    tell_operators(transaction, "device lost", f"{device.id}:{now}", text, now)
    if holder is not None:
        _pause(transaction, device, holder, lost, now, policy)
    return True


def _pause(transaction: Transaction, device: Row, holder: Row, lost: Lost, now: int, policy: Policy) -> None:
    earliest = holder.opened_at if holder.started_at is None else max(holder.started_at, holder.opened_at)
    since = max(min(math.floor(lost.at), now), earliest)
    paused = grants.pause(transaction, holder.id, device.id, lost.reason, since)
    if paused is None:
        return
    stop_at = now + policy.loss_grace
    grants.stop_after_loss(transaction, holder.id, stop_at)
    transaction.run(runs_store.MARK_WARNED, run=holder.id, at=now)
    words = texts.person_of_loss(device, lost.reason, holder, paused, stop_at)
    notices.tell(transaction, _notice(holder, "device lost", f"{holder.id}:{paused}:{now}", words), now)


def held_while_lost(transaction: Transaction, device: Row, at: int, now: int, policy: Policy) -> None:
    """The run to which a cluster gave the lost device at `at` is not charged for it, and its person knows."""
    holder = grants.holder(transaction, device.id)
    if holder is not None and device.state == DeviceState.LOST.value:
        lost = Lost(Loss(device.loss or Loss.GONE), device.reason or GONE_REASON, at)
        _pause(transaction, device, holder, lost, now, policy)


def back(transaction: Transaction, device: Row, at: float, now: int) -> bool:
    """A device that was gone is there again; return whether it was gone.

    Its run goes on and is charged from `at` on. One that no run holds is cleaned first, as its pool has it: a run may
    have left something on it. One whose error asks for a reset stays lost until an operator releases it.
    """
    if device.state != DeviceState.LOST.value or device.loss != Loss.GONE.value:
        return False
    _return(transaction, device, at, now)
    return True


def _return(transaction: Transaction, device: Row, at: float, now: int) -> None:
    holder = grants.holder(transaction, device.id)
    state = DeviceState.AVAILABLE
    if holder is None and grants.was_ever_held(transaction, device.id):
        state = AFTER_RELEASE[Cleaning(device.cleaning)]
    store.set_state(transaction, device, state, now)
    detail = {"device": device.uuid, "run": None if holder is None else holder.id}
    audit.record(transaction, now, "platform", "device back", device.node, detail)
    tell_operators(transaction, "device back", f"{device.id}:{now}", texts.operators_of_return(device, state), now)
    if holder is None or grants.held_and_lost(transaction, holder.id):
        return
    until_at = min(math.ceil(at), now)
    grants.end_pauses(transaction, holder.id, until_at)
    grants.stop_after_loss(transaction, holder.id, None)
    transaction.run(runs_store.UNMARK_WARNED, run=holder.id)
    words = texts.person_of_return(holder, until_at)
    notices.tell(transaction, _notice(holder, "device back", f"{holder.id}:{now}", words), now)


def taken_from(database: Database, run_id: str, uuid: str, at: int, policy: Policy) -> bool:
    """The run's container has lost the device, which its machine still has; return whether that was not known.

    The run is not charged from `at` on. The device can be held again, once it is cleaned, when the run has ended.
    """
    with database.write() as transaction:
        device = _held(transaction, run_id, uuid)
        return device is not None and lose(transaction, device, Lost(Loss.TAKEN, TAKEN_REASON, at), at, policy)


def given_back_to(database: Database, run_id: str, uuid: str, at: int) -> bool:
    """The run's container has the device again, and the run is charged again; return whether it was taken from it."""
    with database.write() as transaction:
        device = _held(transaction, run_id, uuid)
        if device is None or device.state != DeviceState.LOST.value or device.loss != Loss.TAKEN.value:
            return False
        _return(transaction, device, at, at)
        return True


def _held(transaction: Transaction, run_id: str, uuid: str) -> Row | None:
    return next((each for each in store.of_run(transaction, run_id) if each.uuid == uuid), None)


_CAN_BE_HELD_BACK = frozenset(
    state.value for state in (DeviceState.AVAILABLE, DeviceState.CLEANING, DeviceState.OCCUPIED)
)


def hold_back(transaction: Transaction, device: Row, reason: str, now: int, *, actor: str = "platform") -> bool:
    """The device is quarantined, once its run has ended where one holds it; return whether it was not to be before."""
    if device.state not in _CAN_BE_HELD_BACK:
        return False
    holder = grants.holder(transaction, device.id)
    if holder is None:
        store.set_state(transaction, device, DeviceState.QUARANTINED, now, reason=reason)
    elif device.hold_back is None:
        store.hold_back(transaction, device.id, reason)
    else:
        return False
    detail = {"device": device.uuid, "reason": reason, "run": None if holder is None else holder.id}
    audit.record(transaction, now, actor, "device quarantined", device.node, detail)
    text = texts.operators_of_quarantine(device, reason, holder)
    tell_operators(transaction, "device quarantined", f"{device.id}:{now}", text, now)
    return True


def _tell_of_own_error(transaction: Transaction, device: Row, known: Xid, now: int) -> None:
    """The person knows of an error that their own program made: once for each run and number."""
    holder = grants.holder(transaction, device.id)
    if holder is not None:
        words = texts.person_of_own_error(device, known, holder)
        notices.tell(transaction, _notice(holder, "device error", f"{holder.id}:{known.number}", words), now)


def tell_operators(transaction: Transaction, kind: str, about: str, words: texts.Words, now: int) -> None:
    """Everyone who operates the platform has the notice, once."""
    for person in nodes_store.operators(transaction):
        notice = notices.Notice(person, kind, about, text_ko=words.korean, text_en=words.english)
        notices.tell(transaction, notice, now)


def look_for_silence(database: Database, now: int, policy: Policy) -> Counter[str]:
    """Operators have been told of each machine that reports no more, once for each silence; return of how many."""
    with database.read() as transaction:
        found = [
            row for row in nodes_store.silent(transaction, now - policy.node_silence) if _is_news(transaction, row)
        ]
    if not found:
        return Counter()
    with database.write() as transaction:
        for row in found:
            tell_operators(transaction, "machine silent", _silence(row), texts.operators_of_silence(row), now)
            detail = {"since": show_instant(row.reported_at)}
            audit.record(transaction, now, "platform", "machine silent", row.name, detail)
    return Counter(silent=len(found))


def _silence(node: Row) -> str:
    return f"{node.id}:{node.reported_at}"


def _is_news(transaction: Transaction, node: Row) -> bool:
    return nodes_store.are_untold(transaction, "machine silent", _silence(node))


def _notice(holder: Row, kind: str, about: str, words: texts.Words) -> notices.Notice:
    return notices.Notice(holder.person_id, kind, about, text_ko=words.korean, text_en=words.english)
