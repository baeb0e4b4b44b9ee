"""What a request is refused with: status, field and message in both languages, the same for pages and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from quotas.domain.refusals import Refused
from quotas.domain.units import InvalidValue


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - it is the answer, not always someone's error
    """A request is not done. `code` is stable; `field` names what of the request it is about, or is empty."""

    status: int
    code: str
    message_en: str
    message_ko: str
    field: str = ""
    next_en: str = ""
    next_ko: str = ""

    def message(self, language: str) -> str:
        return self.message_ko if language == "ko" else self.message_en

    def next_step(self, language: str) -> str:
        return self.next_ko if language == "ko" else self.next_en

    def body(self, language: str) -> dict[str, Any]:
        """Return the JSON that the API answers."""
        return {
            "error": {
                "code": self.code,
                "field": self.field,
                "message": self.message(language),
                "message_en": self.message_en,
                "message_ko": self.message_ko,
                "next": self.next_step(language),
            }
        }


class LoginNeeded(Exception):  # noqa: N818 - named for what comes next
    """Nobody is logged in; afterwards the person is to come to `next_url`."""

    def __init__(self, next_url: str) -> None:
        super().__init__(next_url)
        self.next_url = next_url


def refusal(refused: Refused) -> Problem:
    """Return the engine's refusal as an answer."""
    return Problem(
        refused.status,
        refused.code.value,
        refused.message("en"),
        refused.message("ko"),
        next_en=refused.next_step("en"),
        next_ko=refused.next_step("ko"),
    )


def invalid(value: InvalidValue) -> Problem:
    """Return a value that cannot be taken as an answer."""
    return Problem(400, "invalid_value", value.message_en, value.message_ko, value.field)


def not_found(field: str) -> Problem:
    """Return the answer to what is not there, or not to be seen by this person."""
    return Problem(404, "not_found", "There is no such thing here.", "여기에 없습니다.", field)


def away(what: str) -> Problem:
    """Return the answer while the hub or the ledger does not answer."""
    return Problem(
        503,
        f"{what}_away",
        f"The {what} does not answer at the moment.",
        f"지금 {'허브가' if what == 'hub' else '원장이'} 응답하지 않습니다.",
        next_en="Try again in a minute; what runs goes on.",
        next_ko="1분 후 다시 시도하세요. 실행 중인 작업은 유지됩니다.",
    )


# Made anew each time: an exception that is raised again would keep the frames of every time before.
UNAUTHENTICATED = partial(
    Problem,
    401,
    "unauthenticated",
    "A token of the hub is needed: Authorization: token …",
    "허브의 토큰이 필요합니다. Authorization: token …",
    "Authorization",
    "Make one on the hub's page Tokens.",
    "허브의 토큰 페이지에서 만드세요.",
)
FORBIDDEN = partial(
    Problem,
    403,
    "forbidden",
    "This login or token may not use the portal.",
    "이 로그인 또는 토큰으로는 포털을 사용할 수 없습니다.",
)
FORGED = partial(
    Problem,
    403,
    "form_expired",
    "The form is not one of this login, or has expired.",
    "이 로그인의 양식이 아니거나 만료되었습니다.",
    "_csrf",
    "Load the page again and send the form once more.",
    "페이지를 새로 고침하고 양식을 다시 보내세요.",
)
TOO_LARGE = partial(
    Problem,
    413,
    "too_large",
    "The request is larger than 64 KiB.",
    "요청이 64 KiB보다 큽니다.",
    "body",
)
NOT_A_FORM = partial(Problem, 415, "not_a_form", "Send a plain form.", "일반 양식으로 보내세요.", "Content-Type")
UNEXPECTED = partial(
    Problem,
    500,
    "unexpected",
    "Something went wrong on the platform; nothing was started by this request.",
    "플랫폼에 문제가 생겼습니다. 이 요청으로 시작된 것은 없습니다.",
    next_en="Try again. If it stays so, tell the operator.",
    next_ko="다시 시도하세요. 계속되면 운영자에게 문의하세요.",
)

_KINDS: dict[str, tuple[str, str]] = {
    "missing": ("is missing", "필수 항목입니다"),
    "extra_forbidden": ("is not known here", "알 수 없는 항목입니다"),
    "json_invalid": ("is not JSON", "JSON이 아닙니다"),
    "string_too_long": ("is too long", "너무 깁니다"),
    "string_too_short": ("must not be empty", "비워 둘 수 없습니다"),
    "too_long": ("has too many entries", "항목이 너무 많습니다"),
    "string_type": ("must be text", "문자열이어야 합니다"),
    "int_type": ("must be a whole number", "정수여야 합니다"),
    "int_parsing": ("must be a whole number", "정수여야 합니다"),
    "dict_type": ("must be an object", "객체여야 합니다"),
}


def malformed(errors: Sequence[Any]) -> Problem:
    """Return the first of pydantic's findings as an answer."""
    first: Any = errors[0] if errors else {"loc": (), "type": "", "msg": "is malformed"}
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "path", "query")) or "body"
    english, korean = _KINDS.get(first["type"], (f"cannot be taken: {first['msg']}", "형식이 올바르지 않습니다"))
    return Problem(400, "invalid_value", english, korean, field[:80])
