"""What people are told of devices, in Korean and English."""

from __future__ import annotations

from typing import NamedTuple

from quotas.domain.inventory import (
    ECC_REASON,
    GONE_REASON,
    STATE_WORDS,
    TAKEN_REASON,
    XID_REASON,
    DeviceState,
    Loss,
)
from quotas.domain.node_reports import DeviceEvent
from quotas.domain.runs import RunKind
from quotas.domain.units import show_instant
from quotas.domain.xids import Xid, xid
from quotas.store.database import Row


class Words(NamedTuple):
    """A text in both languages."""

    english: str
    korean: str


def why(reason: str | None) -> Words:
    """Return why a device is out of use, as the store keeps it, for people to read."""
    if not reason:
        return Words("", "")
    if reason == GONE_REASON:
        return Words("its machine does not find it any more", "장비에서 더 이상 인식되지 않습니다")
    if reason == TAKEN_REASON:
        return Words("it was taken from the running container", "실행 중인 컨테이너에서 분리되었습니다")
    number = reason.removeprefix(XID_REASON)
    if number != reason and number.isdigit():
        known = xid(int(number))
        return Words(f"Xid {number}: {known.meaning_en}", f"Xid {number}: {known.meaning_ko}")
    count = reason.removeprefix(ECC_REASON)
    if count != reason and count.isdigit():
        return Words(f"{count} memory errors that could not be corrected", f"정정할 수 없는 메모리 오류 {count}건")
    return Words(reason, reason)


def _device(device: Row) -> str:
    return f"{device.name} {device.uuid}"


def person_of_loss(device: Row, reason: str, holder: Row, since: int, stop_at: int) -> Words:
    """Return what the person is told whose run has lost a device."""
    why_en, why_ko = why(reason)
    since_text, stop = show_instant(since), show_instant(stop_at)
    if holder.kind == RunKind.NOTEBOOK.value:
        todo_en = "Save your work now, stop the server and start it again: it then gets another device."
        todo_ko = "지금 작업을 저장하고 서버를 중지한 뒤 다시 시작하면 다른 장치가 배정됩니다."
    else:
        todo_en = "Its output so far is kept; run it again to have another device."
        todo_ko = "지금까지의 출력은 보관됩니다. 다시 실행하면 다른 장치가 배정됩니다."
    return Words(
        f"Your run on {holder.project} ({holder.profile}) lost its device {device.name}: {why_en}. Nothing is charged"
        f" since {since_text}. It is stopped at {stop}, unless the device comes back before. {todo_en}",
        f"{holder.project} 과제의 실행({holder.profile})이 장치 {device.name}을(를) 잃었습니다: {why_ko}."
        f" {since_text}부터 차감되지 않습니다. 그 전에 장치가 돌아오지 않으면 {stop}에 중지됩니다. {todo_ko}",
    )


def person_of_return(holder: Row, at: int) -> Words:
    """Return what the person is told whose run has its device again."""
    since = show_instant(at)
    return Words(
        f"The device of your run on {holder.project} ({holder.profile}) is back: the run goes on and is charged again"
        f" since {since}. What was in the device's memory may be lost: restart kernels that use it.",
        f"{holder.project} 과제의 실행({holder.profile})의 장치가 돌아왔습니다. 실행이 계속되며 {since}부터 다시"
        " 차감됩니다. 장치 메모리의 내용은 사라졌을 수 있으니 사용하던 커널을 다시 시작하세요.",
    )


def person_of_own_error(device: Row, known: Xid, holder: Row) -> Words:
    """Return what the person is told whose program made an error on the device."""
    return Words(
        f"Your run on {holder.project} ({holder.profile}) had an error on {device.name} (Xid {known.number}):"
        f" {known.meaning_en}. The device itself is well, and the run goes on; look at the program's own output.",
        f"{holder.project} 과제의 실행({holder.profile})에서 {device.name} 오류가 발생했습니다(Xid {known.number}):"
        f" {known.meaning_ko}. 장치는 정상이며 실행은 계속됩니다. 프로그램의 출력을 확인하세요.",
    )


def _holds(holder: Row | None) -> Words:
    if holder is None:
        return Words("No run holds it.", "사용 중인 실행이 없습니다.")
    return Words(
        f"Run {holder.id} on {holder.project} holds it and is not charged.",
        f"{holder.project} 과제의 실행 {holder.id}이(가) 사용 중이며 차감되지 않습니다.",
    )


_RETURNS = {
    Loss.GONE: Words("It is used again once it is reported healthy.", "정상으로 보고되면 다시 사용합니다."),
    Loss.FAULT: Words(
        "It needs a reset; then: mudeung nodes release.",
        "재설정이 필요합니다. 이후 mudeung nodes release를 실행하세요.",
    ),
    Loss.TAKEN: Words("It is used again once that run has ended.", "실행이 끝나면 다시 사용합니다."),
}


def operators_of_loss(device: Row, reason: str, loss: Loss, holder: Row | None) -> Words:
    """Return what operators are told of a lost device."""
    why_en, why_ko = why(reason)
    holds, returns = _holds(holder), _RETURNS[loss]
    return Words(
        f"Device {_device(device)} of {device.node} (pool {device.pool}) is lost: {why_en}. {holds.english}"
        f" {returns.english}",
        f"{device.node}(풀 {device.pool})의 장치 {_device(device)} 장애: {why_ko}. {holds.korean} {returns.korean}",
    )


def operators_of_return(device: Row, state: DeviceState) -> Words:
    """Return what operators are told of a device that is there again."""
    state_en, state_ko = STATE_WORDS[state]
    return Words(
        f"Device {_device(device)} of {device.node} (pool {device.pool}) is back: {state_en}.",
        f"{device.node}(풀 {device.pool})의 장치 {_device(device)} 복구: {state_ko}.",
    )


def operators_of_quarantine(device: Row, reason: str, holder: Row | None) -> Words:
    """Return what operators are told of a device that is quarantined, or will be."""
    why_en, why_ko = why(reason)
    when_en, when_ko = ("", "") if holder is None else (" once its run has ended", " 실행이 끝난 뒤")
    return Words(
        f"Device {_device(device)} of {device.node} (pool {device.pool}) is quarantined{when_en}: {why_en}. Use it"
        " again with mudeung nodes release.",
        f"{device.node}(풀 {device.pool})의 장치 {_device(device)}:{when_ko} 격리됩니다({why_ko}). mudeung nodes"
        " release로 다시 사용할 수 있습니다.",
    )


def unknown_error(device: Row, event: DeviceEvent) -> Words:
    """Return what operators are told of an error whose number the table does not have."""
    number, text = "?" if event.code is None else event.code, event.text[:200]
    return Words(
        f"Device {_device(device)} of {device.node} reported Xid {number}, which is not in the table. It stays in"
        f" use. {text}",
        f"{device.node}의 장치 {_device(device)}에서 목록에 없는 Xid {number} 보고. 계속 사용합니다. {text}",
    )


def operators_of_silence(node: Row) -> Words:
    """Return what operators are told of a machine that reports no more."""
    since = show_instant(node.reported_at)
    return Words(
        f"Machine {node.name} (pool {node.pool}) has not reported since {since}. Look whether it is up, and whether"
        " mudeung agent runs on it and reaches the platform. Its devices are given out as before.",
        f"장비 {node.name}(풀 {node.pool})이(가) {since} 이후 보고하지 않습니다. 장비와 mudeung agent의 실행 여부,"
        " 플랫폼 연결을 확인하세요. 장치 배정은 그대로 유지됩니다.",
    )


def operators_of_units(device: Row, found: int, catalogue: int) -> Words:
    """Return what operators are told of a slice whose size differs from the catalogue's."""
    return Words(
        f"Slices {device.device_model} on {device.node} have {found} multiprocessors, the catalogue says {catalogue}."
        " Correct the catalogue before the next rate card.",
        f"{device.node}의 슬라이스 {device.device_model}의 멀티프로세서는 {found}개이며 목록에는 {catalogue}개입니다."
        " 다음 요율표 전에 목록을 수정하세요.",
    )


def operators_of_other_device(run: Row, found: str, node: Row) -> Words:
    """Return what operators are told of a run that a cluster gave devices which its hold does not name."""
    held = f"{run.device_count} {run.device_model}"
    return Words(
        f"The cluster gave run {run.id} on {run.project} ({run.profile}) {found} of {node.name} (pool {node.pool});"
        f" it holds, and pays for, {held}. Nothing is metered for it. Let the profile's node selector name the machines"
        " of its pool.",
        f"클러스터가 {run.project} 과제의 실행 {run.id}({run.profile})에 {node.name}(풀 {node.pool})의 {found}을(를)"
        f" 배정했으나 예약과 요금은 {held}입니다. 사용량이 측정되지 않습니다. 프로필의 노드 선택자를 풀의 장비에"
        " 맞추세요.",
    )


def operators_of_sharing(node: Row, pod: str) -> Words:
    """Return what operators are told of a machine whose device plugin gives one device to several pods."""
    return Words(
        f"The device plugin of {node.name} (pool {node.pool}) shares devices out by time: {pod} has one that others may"
        " have, too. Such devices do not keep teams apart, and their use cannot be told apart: turn time slicing off.",
        f"{node.name}(풀 {node.pool})의 장치 플러그인이 장치를 시분할로 공유합니다. {pod}의 장치를 다른 파드도 사용할"
        " 수 있어 팀 사이의 격리와 사용량 구분이 되지 않습니다. 시분할을 끄세요.",
    )


def operators_of_failed_cleaning(device: Row, problem: str) -> Words:
    """Return what operators are told of a device that could not be scrubbed."""
    return Words(
        f"Device {_device(device)} of {device.node} could not be scrubbed and is quarantined: {problem}. Use it again"
        " with mudeung nodes release.",
        f"{device.node}의 장치 {_device(device)} 메모리 소거 실패로 격리됨: {problem}. mudeung nodes release로 다시"
        " 사용할 수 있습니다.",
    )
