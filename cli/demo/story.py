"""The steps of the demonstration: numbered, timed, and each true or the end of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli.session import Session


class NotDone(Exception):  # noqa: N818 - it says what is so
    """A step cannot be done here, as something is missing that is not the platform's: the reason, in both languages."""

    def __init__(self, english: str, korean: str) -> None:
        super().__init__(english)
        self.english = english
        self.korean = korean


class Differs(Exception):  # noqa: N818 - it says what is so
    """Something came that differs from what should be."""

    def __init__(self, expected: object, came: object) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = str(expected)
        self.came = str(came)


@dataclass
class Step:
    """One step while it is done; what `note` is given stands in its line."""

    title: str
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def expect(self, holds: object, expected: object, came: object) -> None:
        """Raise Differs unless it holds."""
        if not holds:
            raise Differs(expected, came)


DONE, FAILED, NOT_DONE = "✓", "✗", "–"


@dataclass(frozen=True)
class Told:
    """A step as it ended: `mark` is one of `DONE`, `FAILED` and `NOT_DONE`."""

    number: int
    mark: str
    title: str
    seconds: float
    notes: tuple[str, ...]


class Story:
    """Prints each step as it ends, with its time, and keeps what it told."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.told: list[Told] = []
        self.began = time.monotonic()

    @property
    def done(self) -> int:
        """How many steps there were so far."""
        return len(self.told)

    @contextmanager
    def step(self, english: str, korean: str) -> Iterator[Step]:
        """Do one step: it ends with a ✓ and its time, or with a ✗ and what differs, which is raised on.

        One that ends with NotDone has a –, and that is raised on as well.
        """
        step, began = Step(self.session.text(english, korean)), time.monotonic()
        try:
            yield step
        except Differs as error:
            expected = self.session.text(f"expected: {error.expected}", f"예상: {error.expected}")
            came = self.session.text(f"came:     {error.came}", f"결과: {error.came}")
            self._tell(FAILED, step.title, began, (*step.notes, expected, came))
            raise
        except NotDone as missing:
            reason = self.session.text(f"not done: {missing.english}", f"실행 안 함: {missing.korean}")
            self._tell(NOT_DONE, step.title, began, (*step.notes, reason))
            raise
        except Exception as error:
            self._tell(FAILED, step.title, began, (*step.notes, f"{type(error).__name__}: {error}"))
            raise
        self._tell(DONE, step.title, began, tuple(step.notes))

    def _tell(self, mark: str, title: str, began: float, notes: tuple[str, ...]) -> None:
        seconds = time.monotonic() - began
        self.told.append(Told(len(self.told) + 1, mark, title, seconds, notes))
        lines = "".join(f"\n       {note}" for note in notes)
        print(f"{len(self.told):3}. {mark} {title} ({seconds:.1f} s){lines}", flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.began
