"""The devices of an admitted run: which they are, and that nothing that has ended still has them."""

from __future__ import annotations

import logging

from quotas.backends.port import Backend
from quotas.domain.admission import Admitted
from quotas.domain.inventory import AssignedDevice
from quotas.domain.profiles import Profile
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunState
from quotas.domain.terms_local import not_attachable
from quotas.domain.units import InvalidValue
from quotas.store import audit, cluster_grants, grants
from quotas.store import runs as runs_store
from quotas.store.database import Database, Transaction

log = logging.getLogger("mudeung.assignment")

STOP_GRACE_SECONDS = 10


def devices_of(database: Database, run_id: str) -> tuple[AssignedDevice, ...]:
    """Return the devices that the run holds, or held, in the order of their machine."""
    with database.read() as transaction:
        return grants.of_run(transaction, run_id)


def device_names(database: Database, run_id: str) -> tuple[str, ...]:
    """Return the devices that the run holds, or held: by UUID, and as the cluster names them where only it can."""
    with database.read() as transaction:
        found = grants.of_run(transaction, run_id)
        run = cluster_grants.run(transaction, run_id)
    only_there = run.cluster_devices if run is not None else None
    return (*(device.uuid for device in found), *(only_there.split(", ") if only_there else ()))


def refusal(invalid: InvalidValue, backend: str, profile: Profile) -> Refused:
    """Return the refusal of a start whose devices cannot be attached, which says why."""
    reasons = {"reason_en": invalid.message_en, "reason_ko": invalid.message_ko}
    named = {"backend": backend, "device": str(profile.device_model), "profile": profile.code}
    return Refused(Code.DEVICE_NOT_ATTACHABLE, {**named, **reasons})


def devices_for(database: Database, backend: Backend, admitted: Admitted, now: int) -> tuple[AssignedDevice, ...]:
    """Return what the admitted run is to be given, free of everything that has ended; nothing on a simulated pool.

    Nor where the backend chooses the devices: of those the ledger only counts how many there are. Raises InvalidValue
    of `devices` where the pool has no machine to give them, where an open run still has one of them, and where the run
    itself has been given up meanwhile.
    """
    if admitted.device_model is None or admitted.simulated or backend.chooses_devices:
        return ()
    with database.read() as transaction:
        found = grants.of_run(transaction, admitted.run_id)
        open_still = _is_open(transaction, admitted.run_id)
    if not open_still:
        raise not_attachable("the run was given up meanwhile", "그동안 실행이 취소되었습니다")
    if not found:
        raise not_attachable(
            "its pool has no machine that assigns it; the operator adds one with `mudeung nodes add`",
            "자원 풀에 이 장치를 배정하는 장비가 없습니다. 운영자가 `mudeung nodes add`로 장비를 추가해야 합니다",
        )
    _free_of_others(database, backend, admitted.run_id, found, now)
    return found


def _free_of_others(
    database: Database, backend: Backend, run_id: str, devices: tuple[AssignedDevice, ...], now: int
) -> None:
    """Nothing of an ended run has one of the devices: it is stopped, whatever had kept it running.

    Raises InvalidValue where a run that has not ended has one: then it is this run that comes too late.
    """
    uuids = [device.uuid for device in devices]
    for other in backend.holders(uuids):
        if other == run_id:
            continue
        with database.read() as transaction:
            open_still = _is_open(transaction, other)
        if open_still:
            raise not_attachable(f"run {other} has it", f"실행 {other}이(가) 사용하고 있습니다")
        log.warning("run %s has ended and still had a device of run %s; it is stopped", other, run_id)
        backend.stop(other, STOP_GRACE_SECONDS)
        if other in backend.holders(uuids):
            backend.remove(other)  # it was made and never begun: nothing may begin it any more
        with database.write() as transaction:
            audit.record(transaction, now, "platform", "stopped without a hold", other)


def _is_open(transaction: Transaction, run_id: str) -> bool:
    row = runs_store.one(transaction, run_id)
    return row is not None and row.state != RunState.SETTLED.value
