"""Makes what a project has on the cluster: when the first of its runs is launched, and when it should be otherwise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from quotas.backends.kubernetes_api import Api, ApiRefused, Gone, Object
from quotas.domain.launch import Launch
from quotas.domain.terms_kubernetes import PROJECT_CLAIM, Site
from quotas.domain.terms_kubernetes_projects import (
    KUEUE,
    NAME,
    SUM_ANNOTATION,
    Bounds,
    Reach,
    home_claim_fields,
    limits_fields,
    namespace_fields,
    network_fields,
    project_claim_fields,
    queue_fields,
    quota_fields,
    volume_fields,
    volume_name,
)
from quotas.domain.units import InvalidValue

log = logging.getLogger("mudeung.kubernetes")

KNOWN_SECONDS = 600
"""How long what was made is taken to be there still."""
PATHS = {
    "Namespace": "/api/v1/namespaces",
    "PersistentVolume": "/api/v1/persistentvolumes",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "LocalQueue": f"/apis/{KUEUE}/namespaces/{{}}/localqueues",
}
UNCHANGING = ("PersistentVolume", "PersistentVolumeClaim", "LocalQueue")
"""What the cluster binds to each other is left as it was made."""


class Projects:
    """The namespaces of the projects of one platform."""

    def __init__(self, api: Api, site: Site, reach: Reach) -> None:
        self.api = api
        self.site = site
        self.reach = reach
        self._known: dict[str, tuple[float, Bounds | None]] = {}
        self._claims: dict[tuple[str, str], float] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._locking = threading.Lock()

    def ensure(self, project: str, bounds: Bounds | None = None) -> None:
        """The project's namespace is there, with the limits and rules in it and the claim of its files.

        Without `bounds` the limits stay as they are. Raises BackendAway, ApiRefused for what the cluster refuses.
        """
        with self._lock_of(project):
            at, known = self._known.get(project, (float("-inf"), None))
            if time.monotonic() - at < KNOWN_SECONDS and bounds in (None, known):
                return
            site = self.site
            self._make(namespace_fields(project, site))
            # The rules come before anything that they are about.
            self._make(network_fields(project, site, self.reach))
            self._make(quota_fields(project, site, bounds or Bounds()), as_it_is=bounds is None)
            self._make(limits_fields(project, site))
            self._make_files(project)
            self._known[project] = (time.monotonic(), bounds if bounds is not None else known)

    def ensure_home(self, launch: Launch) -> None:
        """The claim of the person's own files is there, where the run has them."""
        claim = home_claim_fields(launch, self.site)
        if claim is None:
            return
        key = (launch.project, str(claim["metadata"]["name"]))
        if time.monotonic() - self._claims.get(key, float("-inf")) > KNOWN_SECONDS:
            self._make(claim)
            self._claims[key] = time.monotonic()

    def ensure_queue(self, project: str) -> None:
        """The local queue that the project's Jobs are put in is there, where the platform is the one to make it.

        Raises InvalidValue where it belongs to another cluster queue than it should: Kueue lets nobody change that.
        """
        site = self.site
        if not (site.queue and site.cluster_queue):
            return
        key = (project, f"queue {site.queue}")
        if time.monotonic() - self._claims.get(key, float("-inf")) < KNOWN_SECONDS:
            return
        namespace = site.namespace_of(project)
        try:
            self._make(queue_fields(project, site))
        except Gone as gone:
            if "namespaces" in gone.message:
                raise
            raise InvalidValue(
                "kubernetes_queue",
                f"the cluster has no Kueue that knows {KUEUE}",
                f"클러스터에 {KUEUE}을(를) 아는 Kueue가 없습니다",
            ) from gone
        found = self.api.get(f"{PATHS['LocalQueue'].format(namespace)}/{site.queue}")["spec"].get("clusterQueue")
        if found != site.cluster_queue:
            raise InvalidValue(
                "kubernetes_queue",
                f"{site.queue} of {namespace} belongs to the cluster queue {found}, not to {site.cluster_queue}",
                f"{namespace}의 {site.queue}은(는) {site.cluster_queue}이(가) 아니라 {found}에 속합니다",
            )
        self._claims[key] = time.monotonic()

    def forget(self, project: str) -> None:
        """What the project has is looked at again: something of it was found to be gone."""
        self._known.pop(project, None)
        self._claims = {key: at for key, at in self._claims.items() if key[0] != project}

    def _make_files(self, project: str) -> None:
        site = self.site
        path = f"{PATHS['PersistentVolumeClaim'].format(site.namespace_of(project))}/{PROJECT_CLAIM}"
        if self.api.find(path) is not None:
            return
        if not site.files_claim:
            self._make(project_claim_fields(project, site, site.project_bytes))
            return
        own = self._own_volume()
        self._make(volume_fields(project, site, own))
        size = str(own["spec"]["capacity"]["storage"])
        claim = project_claim_fields(project, site, site.project_bytes, volume_name(project, site))
        claim["spec"]["resources"]["requests"]["storage"] = size
        self._make(claim)

    def _own_volume(self) -> Object:
        """Return the volume of the platform's own home. Raises InvalidValue while it has none."""
        site = self.site
        claim = self.api.get(f"{PATHS['PersistentVolumeClaim'].format(site.namespace)}/{site.files_claim}")
        name = claim["spec"].get("volumeName")
        if not name:
            raise InvalidValue(
                "project_folder",
                f"the claim {site.files_claim} of the platform is not bound",
                f"플랫폼의 볼륨 요청 {site.files_claim}이(가) 연결되지 않았습니다",
            )
        return self.api.get(f"{PATHS['PersistentVolume']}/{name}")

    def _make(self, wanted: Mapping[str, Any], *, as_it_is: bool = False) -> None:
        """The object is there and is what the platform makes of it now; `as_it_is`: one that is there is left alone."""
        metadata, kind = wanted["metadata"], str(wanted["kind"])
        folder = PATHS[kind].format(metadata.get("namespace", ""))
        path = f"{folder}/{metadata['name']}"
        found = self.api.find(path)
        if found is None:
            try:
                self.api.post(folder, wanted)
            except ApiRefused as refused:
                if refused.reason != "AlreadyExists":
                    raise
            return
        made = (found["metadata"].get("annotations") or {}).get(SUM_ANNOTATION)
        if as_it_is or kind in UNCHANGING or made == metadata["annotations"][SUM_ANNOTATION]:
            return
        if kind == "Namespace" and made is None:
            raise InvalidValue(
                "project",
                f"the namespace {metadata['name']} is not the platform's",
                f"네임스페이스 {metadata['name']}은(는) 플랫폼의 것이 아닙니다",
            )
        log.info("%s %s of %s is made anew", kind, metadata["name"], metadata.get("namespace", NAME))
        self.api.patch(path, {**_without(found, wanted), **wanted})

    def _lock_of(self, project: str) -> threading.Lock:
        with self._locking:
            return self._locks.setdefault(project, threading.Lock())


def _without(found: Object, wanted: Mapping[str, Any]) -> Object:
    """Return what takes away, in a merge, the limits that are no longer wanted."""
    old, new = (each.get("spec", {}).get("hard") for each in (found, wanted))
    if old is None or new is None:
        return {}
    spec = wanted["spec"]
    spec["hard"] = {**dict.fromkeys(set(old) - set(new)), **new}
    return {"spec": spec}
