"""The catalogue: device models with their capability facts, images, profiles."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import BindParameter, bindparam, insert, literal, select, update

from quotas.domain.profiles import Profile
from quotas.domain.rates import CapabilityFact, Density, DeviceModel, FactStatus, Precision
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import capability_facts, device_models, images, profiles

_code: BindParameter[str] = bindparam("code")
_IMAGE = Prepared(select(literal(1)).select_from(images).where(images.c.code == _code))
_MODELS = Prepared(select(device_models).order_by(device_models.c.code))
_FACTS = Prepared(
    select(capability_facts).order_by(
        capability_facts.c.device_model, capability_facts.c.precision, capability_facts.c.source
    )
)
_PROFILES = select(profiles, images.c.reference).join(images, images.c.code == profiles.c.image_code)
_ALL = Prepared(_PROFILES.order_by(profiles.c.position, profiles.c.code))
_ONE = Prepared(_PROFILES.where(profiles.c.code == _code))


def add_image(transaction: Transaction, code: str, reference: str, title_ko: str, title_en: str) -> None:
    """The image is in the catalogue. Raises Conflict when its code is taken."""
    transaction.run(insert(images).values(code=code, reference=reference, title_ko=title_ko, title_en=title_en))


def has_image(transaction: Transaction, code: str) -> bool:
    """Return whether the catalogue has the image."""
    return transaction.one(_IMAGE, code=code) is not None


def add_device_model(transaction: Transaction, model: DeviceModel) -> None:
    """The device model is stored. Raises Conflict when its code is taken."""
    transaction.run(
        insert(device_models).values(
            code=model.code,
            name=model.name,
            kind=model.kind,
            memory_bytes=model.memory_bytes,
            parent=model.parent,
            units=model.units,
            units_total=model.units_total,
            units_source=model.units_source or None,
            units_status=model.units_status.value,
        )
    )


def device_model_list(transaction: Transaction) -> list[DeviceModel]:
    """Return every device model by code."""
    return [
        DeviceModel(
            code=row.code,
            name=row.name,
            kind=row.kind,
            memory_bytes=row.memory_bytes,
            parent=row.parent,
            units=row.units,
            units_total=row.units_total,
            units_source=row.units_source or "",
            units_status=FactStatus(row.units_status),
        )
        for row in transaction.rows(_MODELS)
    ]


def add_fact(transaction: Transaction, fact: CapabilityFact) -> None:
    """The fact is stored beside others. Raises Conflict when its source has said so already."""
    transaction.run(
        insert(capability_facts).values(
            device_model=fact.device_model,
            precision=fact.precision.value,
            source=fact.source,
            peak_gflops=fact.peak_gflops,
            status=fact.status.value,
            density=fact.density.value,
            source_date=fact.source_date,
            superseded=int(fact.superseded),
        )
    )


def supersede_fact(transaction: Transaction, device_model: str, precision: Precision, source: str) -> bool:
    """The fact no longer counts; return whether it did until now."""
    mine = (
        capability_facts.c.device_model == device_model,
        capability_facts.c.precision == precision.value,
        capability_facts.c.source == source,
        capability_facts.c.superseded == 0,
    )
    return transaction.run(update(capability_facts).where(*mine).values(superseded=1)) == 1


def facts(transaction: Transaction) -> list[CapabilityFact]:
    """Return every capability fact, by device model, precision and source."""
    return [
        CapabilityFact(
            device_model=row.device_model,
            precision=Precision(row.precision),
            peak_gflops=row.peak_gflops,
            source=row.source,
            status=FactStatus(row.status),
            density=Density(row.density),
            source_date=row.source_date,
            superseded=bool(row.superseded),
        )
        for row in transaction.rows(_FACTS)
    ]


def add(transaction: Transaction, profile: Profile, position: int) -> int:
    """The profile is stored, `profile.image` being an image's code; return its id. Raises Conflict for a taken code."""
    values = {
        "code": profile.code,
        "name_ko": profile.name_ko,
        "name_en": profile.name_en,
        "image_code": profile.image,
        "device_model": profile.device_model,
        "device_count": profile.device_count,
        "cpu_millis": profile.cpu_millis,
        "memory_bytes": profile.memory_bytes,
        "storage_bytes": profile.storage_bytes,
        "backend_terms": profile.terms_json(),
        "position": position,
        "idle_seconds": profile.idle_seconds,
        "session_seconds": profile.session_seconds,
    }
    return transaction.insert(profiles, values)


def set_limits(transaction: Transaction, code: str, idle_seconds: int | None, session_seconds: int | None) -> bool:
    """The profile's servers have these limits; return whether there is such a profile."""
    values = {"idle_seconds": idle_seconds, "session_seconds": session_seconds}
    return transaction.run(update(profiles).where(profiles.c.code == code).values(values)) == 1


def one(transaction: Transaction, code: str) -> Row | None:
    """Return the profile's row with its image's reference, or None."""
    return transaction.one(_ONE, code=code)


def every(transaction: Transaction) -> Sequence[Row]:
    """Return all profiles' rows with their images' references, in the operator's order."""
    return transaction.rows(_ALL)


def from_row(row: Row) -> Profile:
    """Return the profile of a row of `one` or `every`, with its image as the catalogue's reference."""
    return Profile(
        code=row.code,
        name_ko=row.name_ko,
        name_en=row.name_en,
        image=row.reference,
        cpu_millis=row.cpu_millis,
        memory_bytes=row.memory_bytes,
        storage_bytes=row.storage_bytes,
        device_model=row.device_model,
        device_count=row.device_count,
        backend_terms=json.loads(row.backend_terms),
        idle_seconds=row.idle_seconds,
        session_seconds=row.session_seconds,
    )
