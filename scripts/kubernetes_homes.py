#!/usr/bin/env python3
"""People's own files on a cluster, saved into a folder and brought back from it.

A person has a volume of their own in each project's namespace, which no backup of the platform holds, as the platform
does not see it; nor those of projects, where they have volumes of their own. For each claim a pod is run that reads or
writes it, beside the server that has it if one runs. Where the storage takes snapshots, those are quicker.

    scripts/kubernetes_homes.py save mudeung /backup/homes
    scripts/kubernetes_homes.py load mudeung /backup/homes      # while no servers run, before anybody starts one

Needed: kubectl and Python 3.11, and rights to run pods in the projects' namespaces. A claim with files in it is left as
it is by `load`, unless `--replace` says that they go.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PLATFORM = "mudeung.home"
"""The label of everything of a platform's: the value is the platform's namespace."""
POD = "mudeung-homes"
READY_SECONDS, CALL_SECONDS, COPY_SECONDS = 180, 60, 6 * 3600
SUMS = "SHA256SUMS"
PACK = (
    "cd /claim && find . -mindepth 1 -maxdepth 1 ! -name lost+found -print0 | tar --create --gzip --null --files-from=-"
)
"""Without the folder itself, whose rights are the storage's."""
EMPTY = "cd /claim && find . -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +"
Object = dict[str, Any]


class Failed(Exception):  # noqa: N818 - it says what happened
    """What was to be done was not done; the message says why."""


def kubectl(*words: str, given: str | None = None, seconds: int = CALL_SECONDS) -> str:
    """Return what kubectl printed. Raises Failed."""
    done = subprocess.run(
        ["kubectl", *words], input=given, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def objects(kind: str, *words: str) -> list[Object]:
    """Return the objects of a kind."""
    found: list[Object] = json.loads(kubectl("get", kind, *words, "-o", "json"))["items"]
    return found


def plain(each: Object) -> Object:
    """Return the object without what a cluster adds to it."""
    metadata = {key: each["metadata"][key] for key in ("name", "namespace", "labels") if key in each["metadata"]}
    kept = {
        key: value
        for key, value in each["metadata"].get("annotations", {}).items()
        if "kubernetes.io/" not in key and "k8s.io/" not in key
    }
    spec = {key: value for key, value in each.get("spec", {}).items() if key not in {"volumeName", "finalizers"}}
    return {"apiVersion": "v1", "kind": each["kind"], "metadata": {**metadata, "annotations": kept}, "spec": spec}


def claims(platform: str) -> Iterator[tuple[Object, Object]]:
    """Yield each namespace of the platform's projects with each claim there whose volume is not the platform's own."""
    shared = {each["metadata"]["name"] for each in objects("persistentvolumes", "-l", f"{PLATFORM}={platform}")}
    for namespace in objects("namespaces", "-l", f"{PLATFORM}={platform}"):
        for claim in objects("persistentvolumeclaims", "--namespace", namespace["metadata"]["name"]):
            if claim["spec"].get("volumeName") and claim["spec"]["volumeName"] not in shared:
                yield namespace, claim


def users_machine(namespace: str, claim: str) -> str | None:
    """Return the machine of the pod that has the claim now: most storage lets one machine have it at a time."""
    for pod in objects("pods", "--namespace", namespace):
        used = {each.get("persistentVolumeClaim", {}).get("claimName") for each in pod["spec"].get("volumes", ())}
        if claim in used and pod["status"].get("phase") == "Running":
            return str(pod["spec"]["nodeName"])
    return None


@contextlib.contextmanager
def pod(namespace: str, claim: str, image: str, *, read_only: bool) -> Iterator[None]:
    """A pod has the claim at /claim for as long as the block lasts. Raises Failed where it does not come."""
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": POD,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", str(COPY_SECONDS)],
        "securityContext": security,
        "volumeMounts": [{"name": "claim", "mountPath": "/claim", "readOnly": read_only}],
    }
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 100,
            "fsGroup": 100,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
    }
    machine = users_machine(namespace, claim)
    if machine is not None:
        spec["nodeName"] = machine
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": namespace}, "spec": spec}
    kubectl("create", "-f", "-", given=json.dumps(made))
    try:
        wait = ("wait", "--for=condition=Ready", f"pod/{POD}", "--namespace", namespace, f"--timeout={READY_SECONDS}s")
        kubectl(*wait, seconds=READY_SECONDS + 10)
        yield
    finally:
        kubectl("delete", "pod", POD, "--namespace", namespace, "--grace-period=0", "--force", "--ignore-not-found")


def copy(namespace: str, *command: str, read: IO[bytes] | None = None, write: IO[bytes] | None = None) -> None:
    """The command was run in the pod, with its input from one file or its output in another. Raises Failed."""
    stdin = ["--stdin"] if read is not None else []
    words = ["kubectl", "exec", *stdin, "--namespace", namespace, POD, "--", *command]
    done = subprocess.run(
        words,
        stdin=read if read is not None else subprocess.DEVNULL,
        stdout=write if write is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=COPY_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")


def save(platform: str, folder: Path, image: str) -> None:
    """Each claim is a file in the folder, beside what the cluster is to be told to make it again."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Failed(f"{folder} is not empty")
    sums = []
    for namespace, claim in claims(platform):
        space, name = namespace["metadata"]["name"], claim["metadata"]["name"]
        file = folder / f"{space}.{name}.tar.gz"
        with pod(space, name, image, read_only=True), file.open("xb") as to:
            copy(space, "sh", "-c", PACK, write=to)
        described = {"namespace": plain(namespace), "claim": plain(claim), "file": file.name}
        file.with_suffix("").with_suffix(".json").write_text(json.dumps(described, indent=1))
        sums.append(f"{digest(file)}  {file.name}\n")
        print(f"{space}/{name}: {file.stat().st_size} bytes", flush=True)
    (folder / SUMS).write_text("".join(sums))


def load(platform: str, folder: Path, image: str, *, replace: bool) -> None:
    """Each claim of the folder is there with its files. Raises Failed where a file is not as it was saved."""
    listed = dict(line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text().splitlines())
    for file, expected in listed.items():
        if digest(folder / file) != expected:
            raise Failed(f"{file}: it is not as it was saved")
    for path in sorted(folder.glob("*.json")):
        described = json.loads(path.read_text())
        namespace, claim = described["namespace"], described["claim"]
        space, name = namespace["metadata"]["name"], claim["metadata"]["name"]
        if namespace["metadata"]["labels"][PLATFORM] != platform:
            raise Failed(f"{space} is of the platform in {namespace['metadata']['labels'][PLATFORM]}")
        for each in (namespace, claim):
            with contextlib.suppress(Exists):
                create(each)
        with pod(space, name, image, read_only=False):
            there = kubectl("exec", "--namespace", space, POD, "--", "ls", "-A", "/claim").split()
            if replace:
                kubectl("exec", "--namespace", space, POD, "--", "sh", "-c", EMPTY, seconds=COPY_SECONDS)
            elif set(there) - {"lost+found"}:
                print(f"{space}/{name}: it has files already, and was left as it is", flush=True)
                continue
            with (folder / described["file"]).open("rb") as source:
                copy(space, "tar", "--extract", "--gzip", "--directory=/claim", "--no-overwrite-dir", read=source)
        print(f"{space}/{name}: loaded", flush=True)


class Exists(Failed):
    """The object is there already."""


def create(each: Object) -> None:
    """The object is made. Raises Exists where it is there, Failed."""
    try:
        kubectl("create", "-f", "-", given=json.dumps(each))
    except Failed as failed:
        raise (Exists if "AlreadyExists" in str(failed) else Failed)(str(failed)) from None


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def platform_image(namespace: str) -> str:
    """Return the image of the platform's hub, which every machine that may run it can get."""
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    return kubectl("get", "deployment", "hub", "--namespace", namespace, "-o", path).strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("save", "load"))
    parser.add_argument("namespace", help="the platform's")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--replace", action="store_true", help="load: remove the files that a claim has")
    parser.add_argument("--image", help="of the pods, with tar and gzip; the platform's if none is named")
    asked = parser.parse_args()
    began = time.monotonic()
    try:
        image = asked.image or platform_image(asked.namespace)
        if asked.what == "save":
            save(asked.namespace, asked.folder, image)
        else:
            load(asked.namespace, asked.folder, image, replace=asked.replace)
    except (Failed, OSError, subprocess.TimeoutExpired) as failed:
        print(f"kubernetes_homes: {failed}", file=sys.stderr)
        return 1
    print(f"done in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
