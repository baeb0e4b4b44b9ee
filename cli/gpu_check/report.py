"""What a check came to, as a Markdown page that a site keeps."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version

from cli.demo.story import NOT_DONE, Story
from cli.gpu_check.round import Check
from quotas.domain.units import show_instant

PACKAGES = ("mudeung", "jupyterhub", "papermill", "nvidia-ml-py", "numpy")
COMPLETE, DIFFERS, INCOMPLETE = 0, 1, 3
"""The command's exit statuses."""

RESULTS = {
    COMPLETE: ("complete: every step as it should be", "완료: 모든 단계 성공"),
    DIFFERS: ("failed: a step differs from what should be", "실패: 예상과 다른 단계가 있음"),
    INCOMPLETE: (
        "incomplete: steps were not done, the others are as they should be",
        "미완료: 실행하지 못한 단계가 있음",
    ),
}


def write(check: Check, status: int, now: int) -> str:
    """Return the page: when, on what, with which versions, and each step with its numbers."""
    story = check.story
    said = story.session.text
    model = model_name(check)
    lines = [
        f"# {said('GPU check', 'GPU 점검')}: {model}",
        "",
        f"- {said('Date', '일시')}: {show_instant(now)} ({datetime.fromtimestamp(now, UTC).isoformat()})",
        f"- {said('Result', '결과')}: {said(*RESULTS[status])} ({said('exit', '종료 코드')} {status})",
        f"- {said('Devices', '장치')}: {_devices(check)}",
        f"- {said('Driver', '드라이버')}: {_driver(check)}",
        f"- {said('Backend', '백엔드')}: {check.platform.backend}",
        f"- {said('Versions', '버전')}: {_versions()}",
        f"- {said('System', '시스템')}: {platform.system()} {platform.release()} {platform.machine()}",
        "",
        f"## {said('Steps', '단계')}",
        "",
        *_steps(story),
    ]
    return "\n".join(lines) + "\n"


def model_name(check: Check) -> str:
    """Return the maker's name of what was checked."""
    devices = check.machine.devices if check.machine else ()
    chosen = [device.name for device in devices if device.uuid in check.uuids]
    return (chosen or [device.name for device in devices] or ["-"])[0]


def file_name(check: Check) -> str:
    """Return under which name a site keeps the page."""
    name = check.model or model_name(check)
    return f"gpu_check_{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_') or 'none'}.md"


def _devices(check: Check) -> str:
    if check.machine is None:
        return "-"
    names = [device.name for device in check.machine.devices]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "-"


def _driver(check: Check) -> str:
    if check.machine is None:
        return "-"
    driver = check.machine.driver
    return f"{driver.version or '-'}, CUDA {driver.cuda or '-'}"


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {packages}"


def _steps(story: Story) -> list[str]:
    lines: list[str] = []
    for told in story.told:
        lines.append(f"{told.number}. {told.mark} {told.title} ({told.seconds:.1f} s)")
        lines += [f"   - {_plain(line)}" for note in told.notes for line in note.splitlines() if line.strip()]
    if any(told.mark == NOT_DONE for told in story.told):
        lines += ["", story.session.text("– marks a step that was not done.", "–는 실행하지 못한 단계입니다.")]
    return lines


def _plain(text: str) -> str:
    """Return the text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*<>])", r"\\\1", text.strip())
