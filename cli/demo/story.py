"""The steps of the demonstration: numbered, timed, and each true or the end of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli.session import Session


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


class Story:
    """Prints each step as it ends, with its time."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.done = 0
        self.began = time.monotonic()

    @contextmanager
    def step(self, english: str, korean: str) -> Iterator[Step]:
        """Do one step: it ends with a ✓ and its time, or with a ✗ and what differs, which is raised on."""
        step, began = Step(self.session.text(english, korean)), time.monotonic()
        self.done += 1
        try:
            yield step
        except Exception as error:
            seconds = time.monotonic() - began
            print(f"{self.done:3}. ✗ {step.title} ({seconds:.1f} s)", flush=True)
            if isinstance(error, Differs):
                self.session.say(f"     expected: {error.expected}", f"     예상: {error.expected}")
                self.session.say(f"     came:     {error.came}", f"     결과: {error.came}")
            else:
                print(f"     {type(error).__name__}: {error}", flush=True)
            raise
        seconds = time.monotonic() - began
        notes = "".join(f"\n       {note}" for note in step.notes)
        print(f"{self.done:3}. ✓ {step.title} ({seconds:.1f} s){notes}", flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.began
