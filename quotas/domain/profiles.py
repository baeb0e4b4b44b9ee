"""Profiles: image + accelerator share + CPU + memory + storage, and the terms that a backend adds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quotas.domain.units import InvalidValue, amount

_CODE = re.compile(r"[a-z](?:-?[a-z0-9]){0,39}")


@dataclass(frozen=True)
class Profile:
    """What a server or a batch run gets. `device_model` is None for a CPU profile.

    `image` is a reference from the image catalogue. A server that has computed nothing for `idle_seconds` is warned and
    stopped; one that its person has not extended for `session_seconds` as well; None is no such limit. `backend_terms`
    maps a backend's name to extra fields of that
    backend, written by an operator and never by a user.
    """

    code: str
    name_ko: str
    name_en: str
    image: str
    cpu_millis: int
    memory_bytes: int
    storage_bytes: int
    device_model: str | None = None
    device_count: int = 0
    backend_terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    idle_seconds: int | None = None
    session_seconds: int | None = None

    def __post_init__(self) -> None:
        profile_code(self.code)
        amount("cpu_millis", self.cpu_millis)
        amount("memory_bytes", self.memory_bytes)
        amount("storage_bytes", self.storage_bytes)
        if (self.device_model is None) != (self.device_count == 0):
            raise InvalidValue(
                "device_count",
                "must be above zero with a device model and zero without",
                "장치 모델이 있으면 1 이상, 없으면 0이어야 합니다",
            )
        if self.device_model is not None:
            amount("device_count", self.device_count)
        for name in ("idle_seconds", "session_seconds"):
            if getattr(self, name) is not None:
                amount(name, getattr(self, name))

    def name(self, language: str) -> str:
        return self.name_ko if language == "ko" else self.name_en

    def terms_json(self) -> str:
        """Write the backend terms as the store keeps them."""
        return json.dumps(self.backend_terms, sort_keys=True)


def profile_code(text: object) -> str:
    """Return `text` as a profile code: 1 to 40 of a-z, 0-9 and single hyphens, a letter first. Raises InvalidValue."""
    if not isinstance(text, str) or len(text) > 40 or _CODE.fullmatch(text) is None:
        raise InvalidValue(
            "profile",
            f"{text!r:.60} is not a profile code: 1 to 40 of a-z, 0-9 and single hyphens, a letter first",
            f"{text!r:.60}은(는) 프로필 코드가 아닙니다. 영문 소문자로 시작하는 a-z, 0-9, '-' 1~40자",
        )
    return text
