"""A folder's archive has what is in the folder and nothing else, whatever its members have put there."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from quotas.archives import BLOCK_BYTES, DEEPEST, Archive, Size, leads_inside, measure


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "vision"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("a password")
    return folder


def unpacked(archive: Archive) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(archive)), mode="r:gz")


def names(archive: Archive) -> list[str]:
    return unpacked(archive).getnames()


def test_everything_in_the_folder_is_in_it(root: Path, tmp_path: Path) -> None:
    (root / "data" / "deep").mkdir(parents=True)
    (root / "data" / "empty").mkdir()
    (root / "train.ipynb").write_bytes(b"{}")
    (root / "data" / "deep" / "large.bin").write_bytes(os.urandom(3 * BLOCK_BYTES + 17))
    (root / "데이터 – 한글.csv").write_text("가,나\n")
    (root / ".hidden").write_text("h")
    (root / ("n" * 200)).write_text("long")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o4755)
    archive = Archive(root, "vision")
    found = unpacked(archive)
    out = tmp_path / "out"
    found.extractall(out, filter="data")
    for path in root.rglob("*"):
        copy = out / "vision" / path.relative_to(root)
        assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()
    assert len(found.getnames()) == 1 + len(list(root.rglob("*")))
    assert (archive.files, archive.left_out) == (6, [])
    member = found.getmember("vision/run.sh")
    assert (member.mode, member.uid, member.uname) == (0o755, 0, "")


def test_it_is_made_while_it_is_read(root: Path) -> None:
    (root / "zeros.bin").touch()
    os.truncate(root / "zeros.bin", 2**30)
    parts = iter(Archive(root, "vision"))
    assert len(next(parts)) < BLOCK_BYTES
    assert max(len(next(parts)) for _ in range(3)) < BLOCK_BYTES
    parts.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", ["../secret.txt", "/etc/passwd", "sub/../../secret.txt", "..", ".", "sub/../sub"])
def test_a_link_that_may_lead_out_is_left_out_and_not_followed(root: Path, target: str) -> None:
    (root / "sub").mkdir()
    (root / "link").symlink_to(target)
    archive = Archive(root, "vision")
    found = unpacked(archive)
    if target == ".":  # leads to the folder itself
        assert found.getmember("vision/link").linkname == "."
        return
    assert "vision/link" not in found.getnames()
    assert archive.left_out == ["link"]
    note = found.extractfile("vision.left-out.txt")
    assert note is not None
    assert note.read() == b"link\n"
    assert b"password" not in gzip.decompress(b"".join(Archive(root, "vision")))


def test_a_link_inside_is_kept_as_a_link(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "data.csv").write_text("a")
    (root / "sub" / "link").symlink_to("../data.csv")
    member = unpacked(Archive(root, "vision")).getmember("vision/sub/link")
    assert (member.issym(), member.linkname) == (True, "../data.csv")


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("link", "a/b", True),
        ("a/link", "../b", True),
        ("a/link", "../../b", False),
        ("a/b/c/link", "../../../x", True),
        ("a/b/c/link", "up/../x", False),
        ("link", "//etc", False),
        ("link", "", True),
    ],
)
def test_where_a_link_leads(path: str, target: str, inside: bool) -> None:
    assert leads_inside(PurePosixPath(path), target) is inside


def test_no_folder_is_entered_over_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "theirs.txt").write_text("theirs")
    (root / "link").symlink_to(tmp_path / "other")
    assert "theirs" not in " ".join(names(Archive(root, "vision")))


def test_what_is_no_file_is_left_out(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "kept.txt").write_text("k")
    here = Path.cwd()
    os.chdir(root)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
    finally:
        os.chdir(here)
    archive = Archive(root, "vision")
    assert names(archive) == ["vision", "vision/kept.txt", "vision.left-out.txt"]
    assert sorted(archive.left_out) == ["pipe", "socket"]


def test_a_file_that_shrinks_or_grows_while_it_is_read_breaks_nothing(root: Path) -> None:
    size = 20 * BLOCK_BYTES
    (root / "a.bin").write_bytes(os.urandom(size))
    (root / "b.txt").write_text("after")
    parts = iter(Archive(root, "vision"))
    received = [next(parts), next(parts)]
    os.truncate(root / "a.bin", 10)
    received += parts
    with tarfile.open(fileobj=io.BytesIO(b"".join(received)), mode="r:gz") as found:
        assert found.getmember("vision/a.bin").size == size
        kept = found.extractfile("vision/b.txt")
        assert kept is not None
        assert kept.read() == b"after"


def test_a_name_that_is_no_text_is_kept(root: Path) -> None:
    name = b"caf\xe9"
    with open(os.path.join(os.fsencode(root), name), "wb") as file:  # noqa: PTH118, PTH123 - the name is bytes
        file.write(b"c")
    assert "vision/" + os.fsdecode(name) in names(Archive(root, "vision"))


def test_too_deep_a_folder_is_left_out(root: Path) -> None:
    here = os.open(root, os.O_RDONLY)
    for _ in range(DEEPEST + 2):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    archive = Archive(root, "vision")
    assert len(names(archive)) == DEEPEST + 1
    assert archive.left_out == ["/".join("d" * DEEPEST)]


def test_descriptors_are_given_back(root: Path) -> None:
    for number in range(5):
        (root / f"d{number}").mkdir()
        (root / f"d{number}" / "f").write_bytes(os.urandom(BLOCK_BYTES * 4))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        parts = iter(Archive(root, "vision"))
        next(parts)
        parts.close()  # type: ignore[attr-defined]
        list(Archive(root, "vision"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(Archive(tmp_path / "nothing", "nothing"))
    assert measure(tmp_path / "nothing") == Size(0, 0)


def test_the_size_is_that_of_plain_files(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "large").write_bytes(b"x" * 1000)
    (root / "sub").mkdir()
    (root / "sub" / "a").write_bytes(b"x" * 10)
    (root / "b").write_bytes(b"x" * 5)
    (root / "link").symlink_to(tmp_path / "other")
    os.mkfifo(root / "pipe")
    assert measure(root) == Size(2, 15)
