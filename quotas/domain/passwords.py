"""Passwords: what may be one, and its stored form (scrypt with a salt of its own, cost beside it)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata

from quotas.domain.units import InvalidValue

SHORTEST = 8
LONGEST = 200
_COST_LOG2 = 14
_BLOCK_SIZE = 8
_PARALLEL = 1
_SALT_BYTES = 16
_LARGEST_MEMORY_BYTES = 64 * 2**20


def check(password: object) -> str:
    """Return `password` if it may be one. Raises InvalidValue."""
    if not isinstance(password, str) or not SHORTEST <= len(password) <= LONGEST:
        raise InvalidValue(
            "password",
            f"must have {SHORTEST} to {LONGEST} characters",
            f"{SHORTEST}자 이상 {LONGEST}자 이하여야 합니다",
        )
    return password


def encode(password: str) -> str:
    """Return the form to store, ``scrypt$14$8$1$salt$key``; a different one at every call."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _derive(password, salt, _COST_LOG2, _BLOCK_SIZE, _PARALLEL)
    return f"scrypt${_COST_LOG2}${_BLOCK_SIZE}${_PARALLEL}${_text(salt)}${_text(key)}"


def matches(stored: str | None, password: str) -> bool:
    """Return whether `stored` was made of `password`. None takes as long, and never matches."""
    known = stored is not None
    try:
        _, cost, block, parallel, salt, key = (stored or _NOBODY).split("$")
        expected = base64.b64decode(key, validate=True)
        derived = _derive(password, base64.b64decode(salt, validate=True), int(cost), int(block), int(parallel))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(derived, expected) and known


def _derive(password: str, salt: bytes, cost_log2: int, block_size: int, parallel: int) -> bytes:
    # Systems compose Hangul in different ways: the same keys must give the same password everywhere.
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(
        text, salt=salt, n=2**cost_log2, r=block_size, p=parallel, maxmem=_LARGEST_MEMORY_BYTES, dklen=32
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_NOBODY = f"scrypt${_COST_LOG2}${_BLOCK_SIZE}${_PARALLEL}${_text(bytes(_SALT_BYTES))}${_text(bytes(32))}"
"""Stands for the stored password of someone who has none, at the same cost."""
