"""A rate card as a TOML file: read with every wrong row told at once, and written as a start for the next one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from quotas.domain.profiles import Profile
from quotas.domain.rate_cards import Catalogue
from quotas.domain.rates import (
    MOST_KRW,
    CapabilityFact,
    Density,
    Precision,
    Rate,
    RateCard,
    RateRule,
    rate_from_fact,
)
from quotas.domain.texts import text
from quotas.domain.units import CALENDAR, InvalidValue, moment, parse_instant

MOST_CHARACTERS = 1_000_000
"""A rate card's file is read whole; a longer one is none."""

_TOP = ("version", "effective_from", "reference_precision", "density", "rates")
_OF_A_RULE = {
    RateRule.FACT: ("rule", "source", "gflops", "approver", "krw_per_device_month"),
    RateRule.ASSIGNED: ("rule", "gflops", "reason", "approver", "krw_per_device_month"),
}
_Value = TypeVar("_Value")
_Kind = TypeVar("_Kind", bound=StrEnum)


class _Reading:
    """What was read, and what could not be; the rest is still read, so that a person mends all of it at once."""

    def __init__(self) -> None:
        self.problems: list[InvalidValue] = []

    def take(self, read: Callable[[], _Value], instead: _Value) -> _Value:
        try:
            return read()
        except InvalidValue as problem:
            self.problems.append(problem)
            return instead

    def end(self) -> None:
        """Raise one InvalidValue that tells all problems, if there are any."""
        if not self.problems:
            return
        first, *others = self.problems
        raise InvalidValue(
            first.field,
            "\n".join([first.message_en, *(other.in_language("en") for other in others)]),
            "\n".join([first.message_ko, *(other.in_language("ko") for other in others)]),
        )


def read(content: str, catalogue: Catalogue, next_version: int) -> RateCard:
    """Return the rate card of a file. Raises InvalidValue, whose message has a line for each thing that is wrong."""
    document = _document(content)
    reading = _Reading()
    reading.problems += [_unknown_key(key, _TOP) for key in document if key not in _TOP]
    version = reading.take(lambda: _version(document.get("version", next_version), next_version), next_version)
    effective_from = reading.take(lambda: _instant(document.get("effective_from")), 1)
    precision = reading.take(
        lambda: _one_of("reference_precision", document.get("reference_precision"), Precision), Precision.FP32
    )
    density = reading.take(lambda: _one_of("density", document.get("density", "dense"), Density), Density.DENSE)
    nothing: Mapping[str, Any] = {}
    rows = reading.take(lambda: _table("rates", document.get("rates")), nothing)
    card = RateCard(version, effective_from, precision, (), density)
    rates = [reading.take(partial(_rate, profile, row, card, catalogue), None) for profile, row in rows.items()]
    reading.end()
    return RateCard(version, effective_from, precision, tuple(rate for rate in rates if rate is not None), density)


def _document(content: str) -> Mapping[str, Any]:
    if len(content) > MOST_CHARACTERS:
        message = f"must be at most {MOST_CHARACTERS:,} characters", f"{MOST_CHARACTERS:,}자 이하여야 합니다"
        raise InvalidValue("file", *message)
    try:
        return tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError, too
        raise InvalidValue("file", f"is no TOML: {error}", f"TOML 형식이 아닙니다: {error}") from None


def _unknown_key(key: str, allowed: tuple[str, ...], where: str = "") -> InvalidValue:
    known = ", ".join(allowed)
    message = f"is no key here; allowed: {known}"
    return InvalidValue(f"{where}{key:.60}", message, f"쓸 수 없는 항목입니다. 가능: {known}")


def _version(value: object, expected: int) -> int:
    if isinstance(value, bool) or value != expected:
        message = f"must be {expected}, or left out, not {value!r:.60}"
        raise InvalidValue("version", message, f"{expected}이거나 없어야 합니다 (입력: {value!r:.60})")
    return expected


def _instant(value: object) -> int:
    """A date is 00:00 of that day in Korea, a time without a zone is Korea's."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=CALENDAR)
        return parse_instant("effective_from", aware.isoformat())
    if isinstance(value, date):
        return parse_instant("effective_from", datetime.combine(value, time(), CALENDAR).isoformat())
    return parse_instant("effective_from", value if isinstance(value, str) else repr(value))


def _one_of(field: str, value: object, kinds: type[_Kind]) -> _Kind:
    for kind in kinds:
        if value == kind.value:
            return kind
    allowed = ", ".join(kinds)
    message = f"must be one of {allowed}, not {value!r:.60}"
    raise InvalidValue(field, message, f"다음 중 하나여야 합니다: {allowed} (입력: {value!r:.60})")


def _table(field: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        message = f"must have a table [{field}.CODE] for each profile", f"프로필마다 [{field}.코드] 표가 있어야 합니다"
        raise InvalidValue(field, *message)
    return value


def _rate(code: str, row: object, card: RateCard, catalogue: Catalogue) -> Rate:
    field = f"rates.{code:.60}"
    profile = catalogue.profiles.get(code)
    if profile is None:
        known = ", ".join(catalogue.profiles)
        raise InvalidValue(field, f"there is no such profile; there are: {known}", f"없는 프로필입니다. 가능: {known}")
    if not isinstance(row, dict):
        raise InvalidValue(field, "must be a table", "표 형식이어야 합니다")
    rule = _one_of(f"{field}.rule", row.get("rule"), RateRule)
    for key in row:
        if key not in _OF_A_RULE[rule]:
            raise _unknown_key(key, _OF_A_RULE[rule], f"{field}.")
    price = _whole(f"{field}.krw_per_device_month", row.get("krw_per_device_month"), 0, MOST_KRW)
    if price and profile.device_model is None:
        raise InvalidValue(
            f"{field}.krw_per_device_month",
            "must be 0 or left out: the profile has no device",
            "장치가 없는 프로필이므로 0이거나 없어야 합니다",
        )
    approver = None if row.get("approver") is None else text(f"{field}.approver", row["approver"], 63)
    gflops = _whole(f"{field}.gflops", row.get("gflops"), 1, 2**63 - 1)
    if rule is RateRule.FACT:
        rate = _from_fact(field, profile, row.get("source"), approver, card, catalogue)
        if gflops not in {None, rate.gflops}:
            message = f"the fact gives {rate.gflops}, not {gflops}; leave it out, or assign the rate"
            raise InvalidValue(
                f"{field}.gflops", message, f"성능 자료로는 {rate.gflops}입니다 (입력: {gflops}). 지우거나 지정하세요"
            )
        return Rate(code, rate.gflops, rule, rate.reason, approver, price)
    if gflops is None:
        raise InvalidValue(f"{field}.gflops", "must be given for an assigned rate", "지정 요율에는 값이 필요합니다")
    if approver is None:
        raise InvalidValue(
            f"{field}.approver", "must name who approves an assigned rate", "지정 요율에는 승인자 이름이 필요합니다"
        )
    return Rate(code, gflops, rule, text(f"{field}.reason", row.get("reason", ""), 1000), approver, price)


def _whole(field: str, value: object, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = f"must be a whole number from {least:,} to {most:,}, or left out, not {value!r:.60}"
        raise InvalidValue(field, message, f"{least:,}~{most:,}의 정수이거나 없어야 합니다 (입력: {value!r:.60})")
    return value


def _from_fact(
    field: str, profile: Profile, source: object, approver: str | None, card: RateCard, catalogue: Catalogue
) -> Rate:
    feeding = catalogue.feeding(profile, card.reference_precision, card.density)
    if not feeding:
        of = profile.device_model or profile.code
        raise InvalidValue(
            f"{field}.rule",
            f"no source states {card.reference_precision} ({card.density}) of {of}: it must be assigned, with gflops,"
            " reason and approver",
            f"{of}의 {card.reference_precision}({card.density}) 성능을 밝힌 자료가 없습니다. gflops, reason,"
            " approver를 적어 assigned로 지정하세요",
        )
    fact = feeding[0] if source is None else _named(field, source, feeding)
    model = catalogue.models[profile.device_model or ""]
    try:
        return rate_from_fact(profile.code, profile.device_count, model, fact, approver)
    except InvalidValue as refused:
        raise InvalidValue(f"{field}.approver", refused.message_en, refused.message_ko) from None


def _named(field: str, source: object, feeding: list[CapabilityFact]) -> CapabilityFact:
    for fact in feeding:
        if fact.source == source:
            return fact
    known = "; ".join(fact.source for fact in feeding)
    raise InvalidValue(f"{field}.source", f"must be one of: {known}", f"다음 중 하나여야 합니다: {known}")


def write(card: RateCard) -> str:
    """Return the card as a file that :func:`read` takes, without its version: a start for the next card."""
    lines = [
        f"effective_from = {moment(card.effective_from).astimezone(CALENDAR).isoformat()}",
        f'reference_precision = "{card.reference_precision.value}"',
        f'density = "{card.density.value}"',
    ]
    for rate in card.rates:
        values: dict[str, object] = {"rule": rate.rule.value}
        if rate.rule is RateRule.ASSIGNED:
            values |= {"gflops": rate.gflops, "reason": rate.reason}
        if rate.approver is not None:
            values["approver"] = rate.approver
        if rate.krw_per_device_month is not None:
            values["krw_per_device_month"] = rate.krw_per_device_month
        # The escapes of a JSON text are those of a TOML one.
        lines += ["", f"[rates.{rate.profile}]"]
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
