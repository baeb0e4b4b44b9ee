"""docs/kubernetes/air_gapped.md: the bundle has what an installation needs, and nothing is loaded from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.conftest import Tools
from tests.helm.test_chart import SETS, objects, pods

ROOT = Path(__file__).resolve().parents[2]
VERSION = yaml.safe_load((ROOT / "helm" / "mudeung" / "Chart.yaml").read_text())["appVersion"]
IMAGES = ("mudeung-test/one:1", "mudeung-test/two:2")
LABEL = "org.opencontainers.image.base.name"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Two small images of this machine's engine."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no Docker engine answers")
    folder = tmp_path_factory.mktemp("image")
    (folder / "file").write_text("content")
    for name in IMAGES:
        (folder / "Dockerfile").write_text(f'FROM scratch\nCOPY file /{name.partition(":")[2]}\nLABEL {LABEL}="none"\n')
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", name, folder], check=True, capture_output=True, timeout=60
        )
    yield IMAGES
    subprocess.run(["docker", "rmi", *IMAGES], check=False, capture_output=True, timeout=60)


def bundle(into: Path, images: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "IMAGES": " ".join(images)}
    words = [str(ROOT / "scripts" / "bundle"), str(into)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.docker
@pytest.mark.kubernetes
def test_the_bundle_has_chart_images_documentation_and_sums(
    helm: Tools, images: tuple[str, ...], tmp_path: Path
) -> None:
    done = bundle(tmp_path, images)
    assert done.returncode == 0, done.stderr
    name = f"mudeung-{VERSION}-offline"
    subprocess.run(["tar", "--extract", f"--file={name}.tar"], cwd=tmp_path, check=True, timeout=60)
    folder = tmp_path / name
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True, timeout=60)
    listed = {line.split("  ", 1)[1].removeprefix("./") for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there - {"SHA256SUMS"} == listed
    assert "docs/kubernetes/air_gapped.md" in listed
    versions = (folder / "VERSIONS").read_text()
    assert all(f"\n{image}\tsha256:" in versions for image in images)

    # The chart is the one of this folder.
    for values in SETS.values():
        packaged = helm.run("helm", "template", "mudeung", str(folder / f"mudeung-{VERSION}.tgz"), *values)
        assert packaged.returncode == 0, packaged.stderr
        whole = helm.template(*values, namespace="default")
        assert objects(packaged.stdout).keys() == objects(whole).keys()
        assert without_secrets(packaged.stdout) == without_secrets(whole)

    [archive] = folder.glob("images.tar.*")
    unpack = ["zstd", "-dc"] if archive.suffix == ".zst" else ["gzip", "-dc"]
    subprocess.run(["docker", "rmi", *images], check=True, capture_output=True, timeout=60)
    with subprocess.Popen([*unpack, archive], stdout=subprocess.PIPE) as plain:
        loaded = subprocess.run(
            ["docker", "load"], stdin=plain.stdout, capture_output=True, text=True, timeout=60, check=True
        )
    assert all(f"Loaded image: {image}" in loaded.stdout for image in images)

    again = bundle(tmp_path, images)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def without_secrets(text: str) -> dict[tuple[str, str], object]:
    """Return what was rendered but for the secrets, which are other ones each time."""
    return {key: each for key, each in objects(text).items() if key[0] != "Secret"}


@pytest.mark.docker
@pytest.mark.kubernetes
def test_an_image_that_is_missing_is_named(helm: Tools, images: tuple[str, ...], tmp_path: Path) -> None:
    del helm
    done = bundle(tmp_path, (*images, "mudeung-test/nowhere:1"))
    assert done.returncode == 1
    assert "no image mudeung-test/nowhere:1 on this machine" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kubernetes
def test_every_image_comes_from_where_the_values_say(helm: Tools) -> None:
    """With a registry of one's own no pod asks another."""
    registry = "registry.example.org/"
    names = {
        "image.name": "mudeung/platform",
        "singleuser.image.name": "mudeung/notebook",
        "postgresql.image.name": "mudeung/postgresql",
        "prePuller.extraImages.torch.name": "torch",
    }
    words = [word for name, value in names.items() for word in ("--set", f"{name}={registry}{value}")]
    more = ["--set", "prePuller.extraImages.torch.tag=v2", "--set", "maintenance.enabled=true"]
    for key, values in SETS.items():
        for name, pod in pods(objects(helm.template(*values, *words, *more))):
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert container["image"].startswith(registry), (key, name)


def test_jupyterlab_asks_nobody_outside() -> None:
    """News, updates and the catalogue of extensions are off in the notebook image."""
    settings = ROOT / "images" / "notebook" / "settings"
    lab = json.loads((settings / "etc" / "jupyter" / "jupyter_server_config.json").read_text())["LabApp"]
    assert lab["news_url"] is None
    assert lab["check_for_updates_class"].endswith(".NeverCheckForUpdate")
    assert lab["extension_manager"] == "readonly"


def test_no_page_names_a_file_elsewhere() -> None:
    """Neither a template nor a style loads anything by a full address; links that a person follows may lead out."""
    loading = re.compile(
        r"""(?:<(?:script|img|iframe|source)[^>]*\ssrc|<link[^>]*\shref|@import|url\()\s*[=(]?\s*["']?(?:https?:)?//"""
    )
    assert loading.search('<script defer src="https://cdn.example/a.js">')
    assert loading.search("src: url(//fonts.example/a.woff2)")
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in [*(ROOT / "templates").rglob("*.html"), *(ROOT / "templates").rglob("*.css")]
        for match in loading.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == {}
