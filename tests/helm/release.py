"""A platform that the chart has installed on the cluster, for a module of tests: as the cluster and as people see it.

The images have to be on the cluster's machines, as `docker.io/mudeung/platform:latest` and so on; the platform's may be
another, by ``MUDEUNG_TEST_PLATFORM_IMAGE``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.helm.conftest import CHART, Tools

PLATFORM = os.environ.get("MUDEUNG_TEST_PLATFORM_IMAGE", "docker.io/mudeung/platform:latest")
IMAGES = (PLATFORM, "docker.io/mudeung/postgresql:latest", "docker.io/mudeung/notebook:latest")
PROGRAMS = ("hub", "proxy", "portal", "reconciler", "scheduler", "idleness")
READY_SECONDS = 240
SMALL = {"resources": {"requests": {"cpu": "10m"}}}
"""The cluster's one machine may be small, and a server has to find room beside the platform."""
VALUES: dict[str, Any] = {
    **dict.fromkeys((*PROGRAMS, "migration"), SMALL),
    "image": dict(zip(("name", "tag"), PLATFORM.rsplit(":", 1), strict=True)) | {"pullPolicy": "Never"},
    "evaluation": {"enabled": True},
    "postgresql": {
        "enabled": True,
        "image": {"name": "docker.io/mudeung/postgresql", "tag": "latest", "pullPolicy": "Never"},
        "storage": {"capacity": "1Gi"},
        **SMALL,
    },
    "home": {"storage": {"capacity": "1Gi"}},
    "prePuller": {"continuous": {"enabled": False}},
}

KEPT = {
    "data-postgresql-0": ("statefulset/postgresql", "/var/lib/postgresql/data"),
    "home": ("deployment/hub", "/var/lib/mudeung"),
}
"""Claims of a release that outlive it: who has them mounted, and where."""


@dataclass
class Installed:
    """The release `mudeung` in a namespace of its own; `settings` are those of the platform."""

    tools: Tools
    namespace: str
    settings: dict[str, Any] = field(default_factory=dict)

    def helm(self, *words: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Install or upgrade with some values changed; return what helm said."""
        given = json.dumps({**VALUES, "settings": self.settings, **changes})
        chart = ["mudeung", str(CHART), "--namespace", self.namespace, "--values", "-"]
        return self.tools.run("helm", *words, *chart, given=given, seconds=READY_SECONDS)

    def rolled_out(self) -> bool:
        """Return whether of each program the newest pod, and no other, is there and ready."""
        found = self.tools.get("deployments", "--namespace", self.namespace)["items"]
        assert len(found) == len(PROGRAMS)
        return all(
            each["status"].get("observedGeneration") == each["metadata"]["generation"]
            and each["status"].get("updatedReplicas") == each["status"].get("availableReplicas") == 1
            for each in found
        )

    def wait(self) -> None:
        """Every program is ready; where one is not, what it is and says is told."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.rolled_out():
            if time.monotonic() > deadline:
                pytest.fail(f"not ready within {READY_SECONDS} s\n{self.said()}")
            time.sleep(1)

    def said(self) -> str:
        """Return where the programs stand, and the last that each printed."""
        here = ("kubectl", "--namespace", self.namespace)
        lines = ("logs", "--selector=app.kubernetes.io/name=mudeung", "--all-containers", "--prefix", "--tail=8")
        asked = (("get", "pods"), (*lines, "--max-log-requests=20", "--ignore-errors"))
        return "\n".join(self.tools.run(*here, *words).stdout for words in asked)

    def kubectl(self, *words: str, given: str | None = None, seconds: int = READY_SECONDS) -> str:
        return self.tools.kubectl("--namespace", self.namespace, *words, given=given, seconds=seconds)

    def secret(self, name: str) -> dict[str, str]:
        found = self.tools.get("secret", name, "--namespace", self.namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in found.items()}

    def in_hub(self, *command: str, given: str | None = None) -> str:
        """Return what a command printed that was run beside the hub."""
        stdin = ["--stdin"] if given is not None else []
        return self.kubectl("exec", *stdin, "deployment/hub", "--container", "hub", "--", *command, given=given)

    def mudeung(self, *words: str) -> Any:
        return json.loads(self.in_hub("mudeung", *words, "-o", "json", "--home", "/var/lib/mudeung"))

    def password(self, person: str) -> str:
        text = self.in_hub("cat", "/var/lib/mudeung/accounts.txt")
        return next(line.split()[1] for line in text.splitlines() if line.split()[0] == person)

    def database(self, statement: str) -> str:
        """Return what the ledger's database answers."""
        psql = ("psql", "-h", "/tmp", "-U", "mudeung", "-d", "mudeung", "-tAc", statement)
        return self.kubectl("exec", "postgresql-0", "--", *psql).strip()

    @contextlib.contextmanager
    def front(self) -> Iterator[str]:
        """The platform answers at the address as long as the block lasts."""
        words = ["kubectl", "--namespace", self.namespace, "port-forward", "service/proxy-public", ":80"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as forwarding:
            try:
                line = forwarding.stdout.readline() if forwarding.stdout else ""
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert found, line
                address = f"http://127.0.0.1:{found[1]}"
                wait_for_hub(address)
                yield address
            finally:
                forwarding.terminate()


def wait_for_hub(address: str, seconds: float = 60) -> None:
    """The hub answers at the address: it is ready a moment before the proxy knows of it."""
    deadline = time.monotonic() + seconds
    while httpx.get(f"{address}/hub/login", timeout=20).status_code != httpx.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.5)


@contextlib.contextmanager
def installed(cluster: Tools, namespace: str, **settings: Any) -> Iterator[Installed]:
    """The platform, from nothing; in the end there is nothing left of it."""
    release = Installed(cluster, namespace, settings)
    remove(release)
    try:
        cluster.kubectl("create", "namespace", namespace)
        missing = _missing(release)
        if missing:
            pytest.skip(f"no machine of the Kubernetes cluster has the image {', '.join(missing)}")
        cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        done = release.helm("install")
        assert done.returncode == 0, done.stderr
        release.wait()
        yield release
    finally:
        remove(release)


def _missing(release: Installed) -> list[str]:
    """Return the images that a pod does not find, as a pod finds them."""
    containers = [
        {"name": f"i{at}", "image": image, "imagePullPolicy": "Never", "command": ["true"]}
        for at, image in enumerate(IMAGES)
    ]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "images"}}
    given = json.dumps({**pod, "spec": {"containers": containers, "restartPolicy": "Never"}})
    release.kubectl("create", "-f", "-", given=given)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            found = json.loads(release.kubectl("get", "pod", "images", "-o", "json"))["status"]
            states = found.get("containerStatuses") or []
            reasons = {each["image"]: each["state"].get("waiting", {}).get("reason", "there") for each in states}
            if reasons and "ContainerCreating" not in reasons.values():
                return [image for image, reason in reasons.items() if reason == "ErrImageNeverPull"]
            time.sleep(0.5)
    finally:
        release.kubectl("delete", "pod", "images", "--grace-period=0", "--force")
    raise AssertionError("a pod that says which images there are did not come")


def remove(release: Installed) -> None:
    """Nothing of the release is left, nor of the namespaces that it has made."""
    cluster, namespace = release.tools, release.namespace
    emptied = _emptied(release)
    cluster.run("helm", "uninstall", "mudeung", "--namespace", namespace, "--ignore-not-found", "--wait")
    made = cluster.get("namespaces", "-l", f"mudeung.home={namespace}")["items"]
    names = [each["metadata"]["name"] for each in made]
    for name in names:
        # A Job would make another pod in place of the one that goes.
        cluster.run("kubectl", "delete", "jobs", "--all", "-n", name, "--cascade=orphan", "--wait=false")
        for pod in cluster.get("pods", "--namespace", name)["items"]:
            # Only the platform takes it away, and it is gone.
            nothing = '{"metadata":{"finalizers":null}}'
            cluster.run("kubectl", "patch", "pod", pod["metadata"]["name"], "-n", name, "--type=merge", "-p", nothing)
    words = ("--ignore-not-found", "--timeout=120s")
    cluster.run("kubectl", "delete", "pods", "--all", "-n", namespace, "--grace-period=1", "--wait=false")
    cluster.run("kubectl", "delete", "namespace", *names, namespace, *words, seconds=130)
    cluster.run("kubectl", "delete", "persistentvolume", "-l", f"mudeung.home={namespace}", "--ignore-not-found")
    _give_back(cluster, {*names, namespace}, [claim for claim in KEPT if claim not in emptied])


def _emptied(release: Installed) -> list[str]:
    """Return the claims whose volumes have nothing on them any more: a database that is found would be taken over."""
    run = ("kubectl", "--namespace", release.namespace, "exec")
    erase = "find {} -mindepth 1 -delete"
    return [
        claim
        for claim, (user, folder) in KEPT.items()
        if release.tools.run(*run, user, "--", "sh", "-c", erase.format(folder)).returncode == 0
    ]


def _give_back(cluster: Tools, namespaces: set[str], full: list[str]) -> None:
    """Volumes that somebody made by hand can be claimed again, but for those that are still `full`."""
    for each in cluster.get("persistentvolumes")["items"]:
        claim = each["spec"].get("claimRef") or {}
        made = "pv.kubernetes.io/provisioned-by" in (each["metadata"].get("annotations") or {})
        if made or each["status"]["phase"] != "Released" or claim.get("namespace") not in namespaces:
            continue
        if claim["name"] not in full:
            words = ("persistentvolume", each["metadata"]["name"], "--type=merge", "-p", '{"spec":{"claimRef":null}}')
            cluster.run("kubectl", "patch", *words)
