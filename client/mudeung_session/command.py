"""``mudeung-session``: in a terminal, how much time the server has left, what limits it, and to extend it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mudeung_session.platform import LONGEST_ANSWER_BYTES, Away, Platform, Refused, answer_of, from_environment

ANSWER_SECONDS = 8.0
BANNER_SECONDS = 0.25
DONE, FAILED, NOT_HERE, NOT_EXTENDED = 0, 1, 2, 3
LANGUAGES = ("ko", "en")
GFLOPS_PER_TFLOPS = 1000

WORDS = {
    "left": ("Time left", "남은 시간"),
    "until": ("until", "종료"),
    "limit": ("Limited by", "제한"),
    "budget": ("Budget left", "과제 잔여량"),
    "hours": ("on this profile", "이 프로필 기준"),
    "device": ("Device", "장치"),
    "busy": ("busy", "사용률"),
    "unknown": ("use not known", "사용률 알 수 없음"),
    "simulated": ("simulated", "모의"),
    "lost": ("lost", "사용 불가"),
    "none": ("none", "없음"),
    "paused": ("Not charged since", "차감 중지"),
    "project": ("Project", "과제"),
    "notice": ("Notice", "알림"),
    "away": (
        "The platform does not answer at the moment. Your server goes on; ask again in a minute.",
        "지금 플랫폼이 응답하지 않습니다. 서버는 계속 실행됩니다. 1분 후 다시 시도하세요.",
    ),
    "not_here": (
        "This is no server of a Mudeung platform: MUDEUNG_SESSION_URL and MUDEUNG_SESSION_TOKEN are not set.",
        "Mudeung 플랫폼의 서버가 아닙니다. MUDEUNG_SESSION_URL과 MUDEUNG_SESSION_TOKEN이 없습니다.",
    ),
    "banner": (
        "This server has {left} left ({limit}). `mudeung-session` says more.",
        "이 서버의 남은 시간: {left} ({limit}). 자세히: mudeung-session",
    ),
    "help": ("how much time this server has left, and what limits it", "이 서버의 남은 시간과 제한을 표시합니다"),
    "help_extend": ("extend it as far as it may be", "연장할 수 있는 만큼 연장합니다"),
    "help_json": ("print the platform's answer as JSON", "플랫폼의 응답을 JSON으로 출력합니다"),
    "help_language": (
        "ko or en; as LANG says, or as you chose on the platform",
        "ko 또는 en. 기본값은 LANG 또는 플랫폼 설정",
    ),
    "help_banner": ("one line, or nothing within a quarter of a second", "한 줄만 출력하고 0.25초 안에 끝냅니다"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Print what was asked for; return 0, 1 without an answer, 2 outside of a platform, 3 where nothing was gained."""
    wanted = list(sys.argv[1:] if words is None else words)
    platform = from_environment()
    if wanted == ["--banner"]:  # a shell waits for it
        return _banner(platform)
    options = _options(wanted)
    language = options.language or of_environment(os.environ)
    if platform is None:
        print(_in(language, "not_here"), file=sys.stderr)
        return NOT_HERE
    try:
        facts = ask(platform, "POST", "/extend") if options.extend else ask(platform, "GET", "")
    except Away:
        print(_in(language, "away"), file=sys.stderr)
        return FAILED
    except Refused as refused:
        print(refused.message_ko if language == "ko" else refused.message_en, file=sys.stderr)
        return FAILED
    if options.json:
        import json  # noqa: PLC0415 - nothing is loaded before it is needed

        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        language = language or str(facts.get("language", "en"))
        print("\n".join(lines(facts, language)))
    return NOT_EXTENDED if options.extend and not facts.get("extended") else DONE


def ask(platform: Platform, method: str, path: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Return the platform's answer. Raises Away, Refused. No proxy of the environment is used: the token is ours."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection  # noqa: PLC0415 - as above

    parts = platform.parts
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=seconds)
    try:
        body = b"{}" if method == "POST" else None
        connection.request(method, parts.path + path, body, platform.headers)
        response = connection.getresponse()
        return dict(answer_of(response.status, response.read(LONGEST_ANSWER_BYTES)))
    except (OSError, HTTPException) as error:
        raise Away(str(error)) from error
    finally:
        connection.close()


def lines(facts: Mapping[str, Any], language: str) -> list[str]:
    """Return what the facts say to people."""
    found: list[tuple[str, str]] = []
    if facts.get(f"message_{language}"):
        found.append(("", str(facts[f"message_{language}"])))
    found.append(("project", f"{facts['project']}, {facts[f'profile_{language}']}"))
    found.append(("left", f"{duration(facts['seconds_left'], language)} ({when(facts['stop_at'], language)})"))
    found.append(("limit", f"{facts[f'limit_{language}']}"))
    found.append(("device", device(facts["device"], language)))
    found.append(("budget", budget(facts["budget"], language)))
    if facts["paused"]:
        found.append(("paused", f"{when(facts['paused']['since'], language, '')}: {facts['paused']['why']}"))
    found += [("notice", str(each[f"text_{language}"])) for each in facts["notices"]]
    if "extended" not in facts:
        found.append(("", str(facts[f"extending_{language}"])))
    return [f"{_in(language, name)}: {text}" if name else text for name, text in found]


def device(found: Mapping[str, Any] | None, language: str) -> str:
    """Return the devices with how busy they are."""
    if found is None:
        return _in(language, "none")
    name = next(iter(found["names"]), found["model"])
    said = [f"{found['count']} × {name}" if found["count"] > 1 else name]
    if found["simulated"]:
        said.append(_in(language, "simulated"))
    elif found["lost"]:
        said.append(_in(language, "lost"))
    elif found["busy_ppm"] is None:
        said.append(_in(language, "unknown"))
    else:
        said.append(f"{_in(language, 'busy')} {found['busy_ppm'] // 10_000}%")
    return ", ".join(said)


def budget(found: Mapping[str, Any], language: str) -> str:
    """Return what the project has left, in TF·h, and how long that lasts."""
    teraflops_hours = found["left_gflops_seconds"] / GFLOPS_PER_TFLOPS / 3600
    lasts = duration(found["left_seconds"], language)
    return f"{teraflops_hours:,.3f} TF·h ({_in(language, 'hours')} {lasts})"


def duration(seconds: int, language: str) -> str:
    """Write whole seconds as people say them."""
    days, rest = divmod(max(int(seconds), 0), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    units = ("일", "시간", "분", "초") if language == "ko" else (" d", " h", " min", " s")
    parts = [f"{number}{unit}" for number, unit in zip((days, hours, minutes), units, strict=False) if number][:2]
    return " ".join(parts) if parts else f"{rest}{units[3]}"


def when(text: str, language: str, word: str = "until") -> str:
    """Write an ISO 8601 instant with its zone, as the platform gave it."""
    day, _, clock = text.partition("T")
    at = f"{day} {clock[:5]} {'KST' if clock.endswith('+09:00') else clock[8:]}".strip()
    if not word:
        return at
    return f"{at} {_in(language, word)}" if language == "ko" else f"{_in(language, word)} {at}"


def of_environment(environment: Mapping[str, str]) -> str:
    """Return the language that the environment asks for, or an empty string where it leaves that open."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        language = environment.get(name, "").lower()[:2]
        if environment.get(name):
            return language if language in LANGUAGES else ""
    return ""


def _banner(platform: Platform | None) -> int:
    """Say one line, or nothing."""
    if platform is None:
        return NOT_HERE
    try:
        facts = ask(platform, "GET", "", BANNER_SECONDS)
    except (Away, Refused):
        return FAILED
    language = of_environment(os.environ) or str(facts.get("language", "en"))
    left, limit = duration(facts["seconds_left"], language), facts[f"limit_{language}"]
    print(_in(language, "banner").format(left=left, limit=limit))
    return DONE


def _options(words: list[str]) -> Any:
    import argparse  # noqa: PLC0415 - as above

    language = of_environment(os.environ)
    parser = argparse.ArgumentParser(prog="mudeung-session", description=_in(language, "help"))
    parser.add_argument("--extend", action="store_true", help=_in(language, "help_extend"))
    parser.add_argument("--json", action="store_true", help=_in(language, "help_json"))
    parser.add_argument("--language", choices=LANGUAGES, default="", help=_in(language, "help_language"))
    parser.add_argument("--banner", action="store_true", help=_in(language, "help_banner"))
    return parser.parse_args(words)


def _in(language: str, name: str) -> str:
    english, korean = WORDS[name]
    return korean if language == "ko" else english
