"""What the driver's error numbers (Xid) say of a GPU: whose fault each is, and what it asks for.

Source: NVIDIA, "Xid Errors" (docs.nvidia.com/deploy/xid-errors, with its catalogue for Ampere and newer), for the
meaning of a number and the action that it asks for; the words are ours. Those that NVIDIA's Kubernetes device plugin
takes for an application's (13, 31, 43, 45, 68, 109) are so here too. A number that is not in the table is stored and
told to operators, and takes no device out of use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Whose an error is. Only a `device`'s own takes it out of use."""

    APPLICATION = "application"
    DEVICE = "device"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Xid:
    """An error's number and what it says. `resets`: the GPU is to be reset before anyone uses it again."""

    number: int
    fault: Fault
    meaning_en: str
    meaning_ko: str
    resets: bool = False

    def meaning(self, language: str) -> str:
        return self.meaning_ko if language == "ko" else self.meaning_en


_APPLICATION = (
    (8, "the GPU gave up on work that did not end", "끝나지 않는 작업을 GPU가 중단했습니다"),
    (13, "a kernel of the program did what the GPU does not allow", "프로그램의 커널이 허용되지 않는 연산을 했습니다"),
    (
        31,
        "the program read or wrote GPU memory that is not its own",
        "프로그램이 자기 것이 아닌 GPU 메모리에 접근했습니다",
    ),
    (32, "the program sent the GPU commands that it cannot read", "프로그램이 GPU가 해석할 수 없는 명령을 보냈습니다"),
    (43, "the program's work was stopped after an error of its own", "프로그램 자체의 오류로 작업이 중지되었습니다"),
    (45, "the program ended while its work was on the GPU", "GPU 작업이 남은 채 프로그램이 종료되었습니다"),
    (68, "video decoding of the program failed", "프로그램의 영상 디코딩이 실패했습니다"),
    (69, "the program gave the GPU a command of the wrong class", "프로그램이 잘못된 종류의 명령을 GPU에 보냈습니다"),
    (109, "the program's work did not yield when its time was up", "프로그램의 작업이 제때 양보하지 않았습니다"),
)
_DEVICE = (
    (46, True, "the GPU stopped working", "GPU가 동작을 멈췄습니다"),
    (48, True, "GPU memory has an error that could not be corrected", "GPU 메모리에 정정할 수 없는 오류가 있습니다"),
    (61, True, "the GPU's own controller halted", "GPU 내부 제어기가 멈췄습니다"),
    (62, True, "the GPU's own controller halted", "GPU 내부 제어기가 멈췄습니다"),
    (
        63,
        True,
        "faulty GPU memory is to be replaced by spare at a reset",
        "재설정 시 결함 메모리를 예비로 대체해야 합니다",
    ),
    (64, True, "faulty GPU memory could not be replaced by spare", "결함 메모리를 예비로 대체하지 못했습니다"),
    (74, True, "the link between GPUs (NVLink) failed", "GPU 간 연결(NVLink)에 오류가 있습니다"),
    (79, True, "the GPU is gone from its bus", "GPU가 버스에서 사라졌습니다"),
    (92, False, "GPU memory corrects errors at a high rate", "GPU 메모리의 정정 오류가 지나치게 많습니다"),
    (93, False, "the GPU's settings store is worn", "GPU 설정 저장소의 수명이 다했습니다"),
    (94, True, "an error of GPU memory hit one program only", "GPU 메모리 오류가 한 프로그램에 영향을 주었습니다"),
    (
        95,
        True,
        "an error of GPU memory may have hit every program",
        "GPU 메모리 오류가 모든 프로그램에 영향을 줄 수 있습니다",
    ),
    (110, True, "the GPU found itself in an unsafe state", "GPU가 보안 오류를 감지했습니다"),
    (119, True, "the GPU's system processor does not answer", "GPU 시스템 프로세서가 응답하지 않습니다"),
    (120, True, "the GPU's system processor failed", "GPU 시스템 프로세서에 오류가 있습니다"),
    (
        121,
        False,
        "the link between processor and GPU (C2C) had errors",
        "프로세서와 GPU 간 연결(C2C)에 오류가 있었습니다",
    ),
    (140, True, "GPU memory has an error from which it cannot recover", "GPU 메모리에 복구할 수 없는 오류가 있습니다"),
)
XIDS: dict[int, Xid] = {
    **{number: Xid(number, Fault.APPLICATION, english, korean) for number, english, korean in _APPLICATION},
    **{number: Xid(number, Fault.DEVICE, english, korean, resets) for number, resets, english, korean in _DEVICE},
}
"""Number → what it says."""


def xid(number: int | None) -> Xid:
    """Return what the number says; one that is not in the table is of unknown fault."""
    found = None if number is None else XIDS.get(number)
    return found or Xid(
        -1 if number is None else number,
        Fault.UNKNOWN,
        "an error that is not in the table",
        "목록에 없는 오류입니다",
    )
