"""The operator's images: which there are, which reference each stands for, and the devices that the program knows."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.devices import FACTS, MODELS
from quotas.domain.units import InvalidValue
from quotas.services import profiles
from quotas.services.profiles import checked_reference
from quotas.store import audit
from quotas.store import images as store
from quotas.store.database import Database


@dataclass(frozen=True)
class Image:
    """An image of the catalogue: what profiles name by `code` is started from `reference`."""

    code: str
    reference: str
    title_ko: str
    title_en: str


def images(database: Database) -> list[Image]:
    """Return all images, by code."""
    with database.read() as transaction:
        return [Image(row.code, row.reference, row.title_ko, row.title_en) for row in store.every(transaction)]


def change(database: Database, code: str, reference: str, *, actor: str, now: int) -> None:
    """Servers and runs that start from now on have this reference; those that run keep theirs. Raises InvalidValue."""
    reference = checked_reference(reference)
    with database.write() as transaction:
        if not store.change(transaction, code, reference):
            raise InvalidValue(
                "image", f"{code!r:.60} is not in the image catalogue", f"{code!r:.60}: 이미지 목록에 없습니다"
            )
        audit.record(transaction, now, actor, "image changed", code, {"reference": reference})


def add_known_devices(database: Database, *, actor: str, now: int) -> int:
    """The device models that the program knows are in the catalogue, with what sources say; return how many are new.

    Those that were there stay as they are, with their facts.
    """
    there = {model.code for model in profiles.devices(database)[0]}
    new = [model for model in MODELS if model.code not in there]
    for model in new:
        profiles.add_device_model(database, model, actor=actor, now=now)
    codes = {model.code for model in new}
    for fact in FACTS:
        if fact.device_model in codes:
            profiles.add_fact(database, fact, actor=actor, now=now)
    return len(new)
