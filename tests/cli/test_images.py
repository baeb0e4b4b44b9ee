"""An empty ledger is given images and device models, and servers start from the image that is named now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.session import FAILED
from quotas.domain.devices import FACTS, MODELS
from quotas.services import profiles
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]
NAMES = ("--name-ko", "과학 계산", "--name-en", "Scientific computing")


def test_an_empty_ledger_gets_what_a_profile_needs(home: Path, invoke: Invoke) -> None:
    del home
    assert invoke("images", "list", "-o", "json").json == []
    assert invoke("rates", "load-devices").output == f"{len(MODELS)} device models added.\n"
    assert invoke("rates", "load-devices").output == "0 device models added.\n"
    assert len(invoke("rates", "facts", "-o", "json").json) == len(FACTS)
    reference = "registry.example.org:5000/mudeung/notebook:0.1.0"
    assert invoke("images", "add", "science", reference, *NAMES).code == 0
    words = ("--name-ko", "H100", "--name-en", "H100", "--image", "science", "--cores", "4", "--memory-gib", "8")
    assert (
        invoke("profiles", "add", "h100", *words, "--storage-gib", "10", "--device", "h100", "--devices", "1").code == 0
    )
    assert invoke("profiles", "show", "h100", "-o", "json").json["image"] == reference


def test_a_changed_image_is_what_servers_start_from(centre: Centre, invoke: Invoke) -> None:
    assert invoke("images", "change", "science", "registry.example.org/notebook@sha256:" + "0" * 64).code == 0
    found = profiles.profile(centre.database, "cpu-small")
    assert found is not None
    assert found.image == "registry.example.org/notebook@sha256:" + "0" * 64
    assert invoke("images", "list", "-o", "json").json[0]["reference"] == found.image


def test_what_is_no_image_is_refused(centre: Centre, invoke: Invoke) -> None:
    del centre
    for words in (
        ("change", "nothing", "a/b:c"),
        ("change", "science", "no reference"),
        ("add", "science", "a/b:c", *NAMES),
        ("add", "other", "A B", *NAMES),
    ):
        ended = invoke("images", *words)
        assert ended.code == FAILED, words
        assert ended.errors.startswith("Error: "), words
