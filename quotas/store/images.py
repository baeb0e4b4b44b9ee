"""The images that servers and batch runs have, by the codes that profiles name."""

from __future__ import annotations

from sqlalchemy import bindparam, select, update

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import images

_LIST = Prepared(select(images).order_by(images.c.code))
_CHANGE = Prepared(update(images).where(images.c.code == bindparam("at")).values(reference=bindparam("new_reference")))


def every(transaction: Transaction) -> list[Row]:
    """Return all images, by code."""
    return transaction.rows(_LIST)


def change(transaction: Transaction, code: str, reference: str) -> bool:
    """The image's reference is this one from now on; return whether there is such an image."""
    return transaction.run(_CHANGE, at=code, new_reference=reference) == 1
