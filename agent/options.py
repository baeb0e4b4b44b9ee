"""What the agent is started with: one table of options for `mudeung agent` and `python -m agent`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

TOKEN_VARIABLE = "MUDEUNG_AGENT_TOKEN"  # noqa: S105 - the name of a variable
DEFAULT_STATE = Path("/var/lib/mudeung-agent")
REPORT_PATH = "/services/portal/api/nodes/report"
SHORTEST_INTERVAL, LONGEST_INTERVAL = 1, 300


class InvalidOption(ValueError):  # noqa: N818 - it says what the option is
    """An option cannot be used; the text says which and why, in English and Korean."""

    def __init__(self, english: str, korean: str) -> None:
        super().__init__(english)
        self.english = english
        self.korean = korean

    def text(self, language: str) -> str:
        return self.korean if language == "ko" else self.english


@dataclass(frozen=True)
class Options:
    """What the agent is started with. `root` is where ``/dev``, ``/sys`` and ``/etc`` lie, `proc` where ``/proc`` is.

    An agent in a container is given the host's folders by these two. `pod_resources` is the kubelet's socket, on a
    machine of a cluster.
    """

    url: str
    state: Path = DEFAULT_STATE
    token_file: Path | None = None
    interval_seconds: int = 10
    buffer_hours: int = 24
    once: bool = False
    nvml: bool = True
    scrub_command: str = ""
    root: Path = Path("/")
    proc: Path = Path("/proc")
    pod_resources: Path | None = None

    def checked(self) -> Options:
        """Return it as it is; raise InvalidOption when something in it cannot be used."""
        if not self.url.startswith(("http://", "https://")):
            raise InvalidOption(
                f"--url: {self.url!r:.80} is no address; it begins with http:// or https://",
                f"--url: {self.url!r:.80}은(는) 주소가 아닙니다. http:// 또는 https://로 시작해야 합니다",
            )
        if not SHORTEST_INTERVAL <= self.interval_seconds <= LONGEST_INTERVAL:
            raise InvalidOption(
                f"--interval: {self.interval_seconds} is not from {SHORTEST_INTERVAL} to {LONGEST_INTERVAL} seconds",
                f"--interval: {self.interval_seconds}은(는) {SHORTEST_INTERVAL}~{LONGEST_INTERVAL}초가 아닙니다",
            )
        if not 1 <= self.buffer_hours <= 24 * 31:
            raise InvalidOption(
                f"--buffer-hours: {self.buffer_hours} is not from 1 to {24 * 31}",
                f"--buffer-hours: {self.buffer_hours}은(는) 1~{24 * 31}이 아닙니다",
            )
        return self

    @property
    def report_url(self) -> str:
        return self.url.rstrip("/") + REPORT_PATH

    def token(self) -> str:
        """Return the machine's token, read now: a file that was replaced counts at once. Raises InvalidOption."""
        if self.token_file is None:
            token = os.environ.get(TOKEN_VARIABLE, "").strip()
            if not token:
                raise InvalidOption(
                    f"no token: name its file with --token-file, or set {TOKEN_VARIABLE}",
                    f"토큰이 없습니다. --token-file로 파일을 지정하거나 {TOKEN_VARIABLE}을(를) 설정하세요",
                )
            return token
        try:
            token = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise InvalidOption(
                f"--token-file: {error}", f"--token-file: {self.token_file}을(를) 읽을 수 없습니다: {error}"
            ) from None
        if not token:
            raise InvalidOption(
                f"--token-file: {self.token_file} is empty", f"--token-file: {self.token_file}이 비어 있음"
            )
        return token

    def token_is_readable_by_all(self) -> bool:
        """Return whether any user of the machine can read the token's file."""
        if self.token_file is None:
            return False
        try:
            return bool(self.token_file.stat().st_mode & stat.S_IROTH)
        except OSError:
            return False
