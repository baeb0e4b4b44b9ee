"""Rosters as files: what is taken, and what is refused."""

from __future__ import annotations

import pytest

from quotas.domain import rosters
from quotas.domain.units import InvalidValue


@pytest.mark.parametrize(
    ("data", "names", "twice"),
    [
        (b"bob\ncho\n", ("bob", "cho"), ()),
        (b"\xef\xbb\xbfusername\r\nbob\r\n\r\ncho", ("bob", "cho"), ()),
        ("이름,Username,학번\n김민지, minji ,1\n박준,jun,2\n".encode(), ("minji", "jun"), ()),
        (b'name,username\n"Lee, Ann",ann\n"two\nlines",bob\n', ("ann", "bob"), ()),
        (b"bob\ncho\nbob\nbob\n", ("bob", "cho"), ("bob",)),
        (b"name,username\nKim,\nLee\nPark,jun\n", ("jun",), ()),
    ],
)
def test_names_are_read_each_once(data: bytes, names: tuple[str, ...], twice: tuple[str, ...]) -> None:
    assert rosters.read(data) == rosters.Names(names, twice)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "names nobody"),
        (b"username\n\n", "names nobody"),
        (b"bob,1\ncho,2\n", "has several columns and none is called username"),
        (b"\xff\xfe", "is not a CSV file in UTF-8"),
        (b'username\n"bob', "is not a CSV file in UTF-8"),
        (b"\n".join(b"p%d" % number for number in range(2_001)), "must name at most 2,000, not 2,001"),
        (b"x" * 1_000_001, "must be at most 1,000,000 bytes"),
        (b"x" * 200_000, "is not a CSV file in UTF-8"),
    ],
)
def test_what_is_no_roster_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        rosters.read(data)
    assert refused.value.field == "roster"
    assert refused.value.message_en.startswith(says)


def test_all_strangers_are_named_and_none_of_them_steers_a_terminal() -> None:
    error = rosters.strangers(["zoe", "yan\x1b[2J"])
    assert str(error).endswith("these are none: zoe, 'yan\\x1b[2J'")
