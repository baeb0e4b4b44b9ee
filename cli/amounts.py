"""Amounts, factors and parameters as they are typed on a command line."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from quotas.domain.units import (
    DAY_SECONDS,
    GFLOPS_PER_PFLOPS,
    GFLOPS_PER_TFLOPS,
    HOUR_SECONDS,
    PPM,
    InvalidValue,
    amount,
)

_BUDGET = re.compile(r"(?P<number>[0-9]{1,30}(?:\.[0-9]{1,12})?)\s*(?P<unit>PF|TF|GF)·?h", re.IGNORECASE)
_SIZES = {"PF": GFLOPS_PER_PFLOPS, "TF": GFLOPS_PER_TFLOPS, "GF": 1}


def budget(field: str, text: str) -> int:
    """Read ``1200`` (GFLOPS·s) or ``0.5PFh`` as GFLOPS·s, above zero and whole. Raises InvalidValue."""
    match = _BUDGET.fullmatch(text.strip())
    if match is not None:
        number = Decimal(match["number"]) * _SIZES[match["unit"].upper()] * HOUR_SECONDS
        if number != number.to_integral_value():
            raise InvalidValue(field, "must be whole GFLOPS·s", "GFLOPS·s 단위의 정수여야 합니다")
        return amount(field, int(number))
    if re.fullmatch(r"-?[0-9]{1,40}", text.strip()) is None:
        raise InvalidValue(
            field,
            f"{text!r:.60} is not an amount; write whole GFLOPS·s, or a number and PFh, TFh or GFh, as in 0.5PFh",
            f"{text!r:.60}은(는) 양이 아닙니다. GFLOPS·s 정수 또는 0.5PFh처럼 숫자와 PFh, TFh, GFh를 쓰세요",
        )
    return amount(field, int(text))


def factor_ppm(field: str, text: str) -> int:
    """Read ``4`` or ``0.85`` as millionths, above zero. Raises InvalidValue."""
    try:
        number = Decimal(text) * PPM
        if not number.is_finite() or number.adjusted() > 20 or number != number.to_integral_value():
            raise InvalidOperation
    except ArithmeticError:
        raise InvalidValue(
            field,
            f"{text!r:.60} is not a factor; write a number with up to six decimals, as in 4 or 0.85",
            f"{text!r:.60}은(는) 배수가 아닙니다. 4 또는 0.85처럼 소수점 아래 6자리까지의 수를 쓰세요",
        ) from None
    return amount(field, int(number))


def share_ppm(field: str, text: str) -> int:
    """Read ``0.85`` or ``85%`` as millionths, above zero and at most the whole. Raises InvalidValue."""
    share = factor_ppm(field, text.removesuffix("%"))
    if text.endswith("%"):
        share, rest = divmod(share, 100)
        if rest:
            raise InvalidValue(field, "must have at most four decimals", "소수점 아래 4자리까지 쓸 수 있습니다")
        amount(field, share)
    if share > PPM:
        raise InvalidValue(field, f"must be at most 1, not {text}", f"1 이하여야 합니다 (입력: {text})")
    return share


def shares_ppm(field: str, text: str) -> list[int]:
    """Read ``50%,50%`` or ``0.5,0.5`` as millionths; an empty text is none. Raises InvalidValue."""
    return [share_ppm(field, each) for each in names(text)]


_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?:in)?)?(?:([0-9]{1,9})s)?", re.IGNORECASE
)


def seconds(field: str, text: str) -> int:
    """Read ``2h``, ``90min``, ``1h30m``, ``1d`` or ``45s`` as whole seconds, above zero. Raises InvalidValue."""
    match = _DURATION.fullmatch(re.sub(r"\s", "", text))
    if match is None or not any(match.groups()):
        raise InvalidValue(
            field,
            f"{text!r:.60} is not a length of time; write numbers with d, h, min or s, as in 2h or 1h30min",
            f"{text!r:.60}은(는) 시간 길이가 아닙니다. 2h 또는 1h30min처럼 숫자와 d, h, min, s를 쓰세요",
        )
    parts = [int(part or 0) for part in match.groups()]
    return amount(field, sum(part * size for part, size in zip(parts, (DAY_SECONDS, HOUR_SECONDS, 60, 1), strict=True)))


def names(text: str) -> list[str]:
    """Read ``a,b`` as a list of names, blanks left out."""
    return [each.strip() for each in text.split(",") if each.strip()]


def pairs(field: str, given: list[str]) -> dict[str, str]:
    """Read ``name=value`` texts, each name once. Raises InvalidValue."""
    read: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise InvalidValue(field, f"{each!r:.60} is not NAME=VALUE", f"{each!r:.60}: 이름=값 형식이어야 합니다")
        if name in read:
            raise InvalidValue(field, f"{name} is given twice", f"{name}이(가) 두 번 지정되었습니다")
        read[name] = value
    return read
