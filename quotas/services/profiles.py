"""The catalogue that an operator keeps: images, device models with their facts, profiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.placement import placement
from quotas.domain.profiles import Profile
from quotas.domain.rates import CapabilityFact, Density, DeviceModel, FactStatus, Precision
from quotas.domain.terms_kubernetes import resource_of
from quotas.domain.texts import code as checked_code
from quotas.domain.texts import text
from quotas.domain.units import DAY_SECONDS, LARGEST, InvalidValue, amount
from quotas.services import machine_capacity
from quotas.services.people import taken, unknown
from quotas.store import audit
from quotas.store import profiles as store
from quotas.store import rates as rates_store
from quotas.store.database import Conflict, Database

_SOURCE_DATE = re.compile(r"[12][0-9]{3}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01]))?)?")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,299}")
LONGEST_LIMIT_SECONDS = 366 * DAY_SECONDS
"""A longer idle or session limit is none."""


@dataclass(frozen=True)
class ProfileView:
    """A profile with its image as a reference, the image's code, its rate and its place.

    The rate in GFLOPS is None where the card has none for it; the price in KRW for a device-month is 0 where it is
    free, and None where it has none.
    """

    profile: Profile
    image_code: str
    rate_gflops: int | None
    position: int
    krw_per_device_month: int | None = None


def add_image(  # noqa: PLR0913 - each is one column of an image
    database: Database, code: str, reference: str, title_ko: str, title_en: str, *, actor: str, now: int
) -> None:
    """The image `reference` is in the catalogue as `code`. Raises InvalidValue for what is no reference, or taken."""
    checked_code("image", code)
    checked_reference(reference)
    titles = text("title_ko", title_ko, 200), text("title_en", title_en, 200)
    try:
        with database.write() as transaction:
            store.add_image(transaction, code, reference, *titles)
            audit.record(transaction, now, actor, "image added", code, {"reference": reference})
    except Conflict:
        raise taken("image", code) from None


def checked_reference(reference: object) -> str:
    """Return the reference of an image. Raises InvalidValue."""
    if not isinstance(reference, str) or _REFERENCE.fullmatch(reference) is None:
        raise InvalidValue(
            "reference",
            f"{reference!r:.60} is not an image reference; write one as in mudeung/notebook:latest",
            f"{reference!r:.60}은(는) 이미지 참조가 아닙니다. mudeung/notebook:latest처럼 쓰세요",
        )
    return reference


def add_device_model(database: Database, model: DeviceModel, *, actor: str, now: int) -> None:
    """The device model is known. Raises InvalidValue for a taken code, an unknown parent or an impossible share."""
    checked_code("device_model", model.code)
    text("name", model.name, 200)
    text("kind", model.kind, 10)
    amount("memory_bytes", model.memory_bytes)
    amount("units", model.units)
    amount("units_total", model.units_total)
    if model.units > model.units_total:
        raise InvalidValue(
            "units",
            f"must be at most units_total ({model.units_total}), not {model.units}",
            f"units_total({model.units_total}) 이하여야 합니다 (입력: {model.units})",
        )
    _check_kind("units_status", model.units_status, FactStatus)
    if model.units_source:
        text("units_source", model.units_source, 300)
    try:
        with database.write() as transaction:
            if model.parent is not None:
                _known_device(model.parent, store.device_model_list(transaction), "parent")
            store.add_device_model(transaction, model)
            audit.record(transaction, now, actor, "device model added", model.code, {"name": model.name})
    except Conflict:
        raise taken("device_model", model.code) from None


def add_fact(database: Database, fact: CapabilityFact, *, actor: str, now: int) -> None:
    """The fact is stored beside other sources'.

    Raises InvalidValue for an unknown device, a peak that is no positive amount, a date that is none, or a second
    figure of one source.
    """
    amount("peak_gflops", fact.peak_gflops)
    text("source", fact.source, 300)
    _check_kind("precision", fact.precision, Precision)
    _check_kind("density", fact.density, Density)
    _check_kind("status", fact.status, FactStatus)
    if fact.source_date is not None and _SOURCE_DATE.fullmatch(fact.source_date) is None:
        raise InvalidValue(
            "source_date",
            f"{fact.source_date!r:.60} is not a date; write 2018, 2018-09 or 2018-09-13",
            f"{fact.source_date!r:.60}은(는) 날짜가 아닙니다. 2018, 2018-09 또는 2018-09-13처럼 쓰세요",
        )
    try:
        with database.write() as transaction:
            _known_device(fact.device_model, store.device_model_list(transaction), "device_model")
            store.add_fact(transaction, fact)
            detail = {"precision": fact.precision.value, "peak_gflops": fact.peak_gflops, "source": fact.source}
            audit.record(transaction, now, actor, "capability fact added", fact.device_model, detail)
    except Conflict:
        raise InvalidValue(
            "source",
            f"{fact.source!r:.60} has a figure for {fact.device_model} at {fact.precision} already",
            f"{fact.source!r:.60}: {fact.device_model}의 {fact.precision} 수치가 이미 있습니다",
        ) from None


def _check_kind(field: str, value: str, known: type[StrEnum]) -> None:
    if value not in list(known):
        allowed = ", ".join(known)
        raise InvalidValue(field, f"must be one of {allowed}", f"다음 중 하나여야 합니다: {allowed}")


def supersede_fact(
    database: Database, device_model: str, precision: Precision, source: str, *, actor: str, now: int
) -> None:
    """The fact is kept and no longer counts. Raises InvalidValue when there is no such fact that counts."""
    with database.write() as transaction:
        if not store.supersede_fact(transaction, device_model, precision, source):
            raise InvalidValue(
                "source",
                f"{source!r:.60} states no figure for {device_model} at {precision} that counts",
                f"{source!r:.60}: {device_model}의 {precision} 수치 중 현재 적용되는 것이 없습니다",
            )
        detail = {"precision": precision.value, "source": source}
        audit.record(transaction, now, actor, "capability fact superseded", device_model, detail)


def devices(database: Database) -> tuple[list[DeviceModel], list[CapabilityFact]]:
    """Return every device model, by code, and every fact, by device model, precision and source."""
    with database.read() as transaction:
        return store.device_model_list(transaction), store.facts(transaction)


def add_profile(database: Database, profile: Profile, position: int, *, actor: str, now: int) -> None:
    """The profile exists, at `position` in lists; `profile.image` is an image's code. It is offered to no project yet.

    Raises InvalidValue for a taken code, for an image or a device model that is not in the catalogue, for devices that
    no machine has, once the platform has machines, and for terms that no pod can have.
    """
    text("name_ko", profile.name_ko, 200)
    text("name_en", profile.name_en, 200)
    _check_limits(profile.idle_seconds, profile.session_seconds)
    placement(profile.backend_terms.get("kubernetes", {}))
    resource_of(profile)
    try:
        with database.write() as transaction:
            if not store.has_image(transaction, profile.image):
                raise InvalidValue(
                    "image",
                    f"{profile.image!r:.60} is not in the image catalogue",
                    f"{profile.image!r:.60}: 이미지 목록에 없습니다",
                )
            if profile.device_model is not None:
                _known_device(profile.device_model, store.device_model_list(transaction), "device_model")
            machine_capacity.require(transaction, profile.device_model, profile.device_count, now)
            store.add(transaction, profile, position)
            detail = {"image": profile.image, "device": profile.device_model, "count": profile.device_count}
            audit.record(transaction, now, actor, "profile added", profile.code, detail)
    except Conflict:
        raise taken("profile", profile.code) from None


def set_limits(
    database: Database, code: str, idle_seconds: int | None, session_seconds: int | None, *, actor: str, now: int
) -> None:
    """The profile's servers are stopped after so long without work, or without being extended; None is no such limit.

    The idle limit holds for servers that run at the next look at them; the other one from a server's next start or
    extension on. Raises InvalidValue for a limit that is no positive length, or an unknown profile.
    """
    _check_limits(idle_seconds, session_seconds)
    with database.write() as transaction:
        if not store.set_limits(transaction, code, idle_seconds, session_seconds):
            raise unknown("profile", code)
        detail = {"idle_seconds": idle_seconds, "session_seconds": session_seconds}
        audit.record(transaction, now, actor, "profile limits set", code, detail)


def _check_limits(idle_seconds: int | None, session_seconds: int | None) -> None:
    for field, seconds in (("idle_seconds", idle_seconds), ("session_seconds", session_seconds)):
        if seconds is not None and amount(field, seconds) > LONGEST_LIMIT_SECONDS:
            days = LONGEST_LIMIT_SECONDS // DAY_SECONDS
            raise InvalidValue(field, f"must be at most {days} days", f"{days}일 이하여야 합니다")


def list_profiles(database: Database, now: int | None = None) -> list[ProfileView]:
    """Return all profiles in the operator's order, with their rates in force at `now`; None is the last card's."""
    with database.read() as transaction:
        card = rates_store.in_force(transaction, LARGEST if now is None else now)
        rows = store.every(transaction)
    rated = {rate.profile: rate for rate in card.rates} if card else {}
    found = []
    for row in rows:
        rate = rated.get(row.code)
        gflops, krw = (rate.gflops, rate.krw_per_device_month) if rate else (None, None)
        found.append(ProfileView(store.from_row(row), row.image_code, gflops, row.position, krw))
    return found


def profile(database: Database, code: str) -> Profile | None:
    """Return the profile with its image as the catalogue's reference, or None."""
    with database.read() as transaction:
        row = store.one(transaction, code)
    return None if row is None else store.from_row(row)


def _known_device(code: str, models: list[DeviceModel], field: str) -> None:
    if code not in {model.code for model in models}:
        raise unknown(field, code)
