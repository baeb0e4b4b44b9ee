"""What a cluster has of one kind with the platform's label, followed by a watch whose age is known.

A watch can go quiet without a word and its copy then stays as it was for good. So it is begun anew every few seconds,
which the API server has to answer, and a copy that it has not confirmed lately is not `fresh`: whoever needs it asks.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from quotas.backends.kubernetes_api import Api, ApiRefused, Gone, Object
from quotas.backends.kubernetes_seen import own, run_of
from quotas.backends.port import BackendAway
from quotas.domain.launch import RUN_LABEL

log = logging.getLogger("mudeung.kubernetes")

WATCH_SECONDS = 20
"""How long the API server keeps a watch; then it is begun anew where it ended."""
FRESH_SECONDS = 45
"""The age from which the copy counts as unknown."""
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
GONE_SECONDS = 6 * 3600
MOST_GONE = 20_000


class Followed:
    """The objects at `path` that `selector` chooses, by the run that they are of."""

    def __init__(self, api: Api, path: str, selector: str) -> None:
        self.api = api
        self.path = path
        self.selector = selector
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._runs: dict[str, dict[str, None]] = {}
        self._gone: dict[str, tuple[float, Object]] = {}
        self._removed: dict[str, None] = {}
        self._told: dict[str, list[Callable[[], None]]] = {}
        self._confirmed = float("-inf")
        self._heard_at = time.time()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def fresh(self) -> bool:
        """Return whether the copy may be relied on; it is followed from the first time that this is asked."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._follow, name=f"follow {self.path}", daemon=True)
                self._thread.start()
        return time.monotonic() - self._confirmed < FRESH_SECONDS

    def all(self) -> list[Object]:
        """Return the object that tells of it, for each run."""
        with self._lock:
            return [self._own(run_id) for run_id in self._runs]

    def of(self, run_id: str) -> Object | None:
        """Return the object that tells of the run, as it was last heard of."""
        with self._lock:
            return self._own(run_id) if run_id in self._runs else None

    def gone(self, run_id: str) -> tuple[float, Object] | None:
        """Return when the run's object was found to be gone, other than by us, and what it was last."""
        with self._lock:
            return self._gone.get(run_id)

    @contextlib.contextmanager
    def telling(self, run_id: str, call: Callable[[], None]) -> Iterator[None]:
        """Within, `call` is called whenever what is known of the run has changed, by the thread that heard of it.

        It must not wait for anything: all that is followed waits for it.
        """
        with self._lock:
            self._told.setdefault(run_id, []).append(call)
        try:
            yield
        finally:
            with self._lock:
                self._told[run_id].remove(call)
                if not self._told[run_id]:
                    del self._told[run_id]

    def note(self, found: Object) -> None:
        """What was just read is in the copy, unless that is newer."""
        with self._lock:
            self._note(found)

    def forget(self, run_id: str) -> None:
        """The run has nothing here any more."""
        with self._lock:
            for uid in self._runs.pop(run_id, {}):
                self._objects.pop(uid, None)
            self._gone.pop(run_id, None)
            self._removed[run_id] = None
            if len(self._removed) > MOST_GONE:
                del self._removed[next(iter(self._removed))]

    def list(self, run_id: str = "") -> list[Object]:
        """Return what the API server has now, of all runs or of one. Raises BackendAway."""
        if not run_id:
            path, selector = self.path, self.selector
        else:
            known = self.of(run_id)  # of a run that is known only its own namespace is searched
            path = self._within(known["metadata"]["namespace"]) if known else self.path
            selector = f"{self.selector},{RUN_LABEL}={run_id}"
        found = self.api.get(path, labelSelector=selector)["items"]
        for each in found:
            self.note(each)
        return [each for each in found if run_of(each)]

    def _within(self, namespace: str) -> str:
        version, _, kind = self.path.rpartition("/")
        return f"{version}/namespaces/{namespace}/{kind}"

    def close(self) -> None:
        """Nothing is followed any more."""
        self._stopping.set()

    # The thread.

    def _follow(self) -> None:
        failures = 0
        version = ""
        while not self._stopping.is_set():
            try:
                version = version or self._list_anew()
                version = self._watch(version)
                failures = 0
            except Gone:
                version = ""
            except (BackendAway, ApiRefused) as error:
                self._confirmed = float("-inf")
                if not failures:
                    log.warning("%s is not followed: %s", self.path, error)
                version = ""
                failures += 1
                self._stopping.wait(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS)) - 1])
            except Exception:
                log.exception("%s is not followed", self.path)
                self._confirmed = float("-inf")
                version = ""
                self._stopping.wait(PAUSES_SECONDS[-1])

    def _list_anew(self) -> str:
        """The copy is what the API server has; what is not there any more went while nobody looked."""
        asked_at = time.monotonic()
        answer = self.api.get(self.path, labelSelector=self.selector)
        there = {each["metadata"]["uid"] for each in answer["items"]}
        version = str(answer["metadata"]["resourceVersion"])
        with self._lock:
            for each in answer["items"]:
                self._note(each)
            for uid, known in list(self._objects.items()):
                if uid not in there and _version(known) <= int(version):
                    self._lose(known, self._heard_at)
            self._confirmed = asked_at
            self._heard_at = time.time()
        return version

    def _watch(self, version: str) -> str:
        """Follow from `version`; return the one to go on from."""
        options = {"resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS), "allowWatchBookmarks": "true"}
        for event in self.api.watch(self.path, WATCH_SECONDS + 10, labelSelector=self.selector, **options):
            if self._stopping.is_set():
                break
            kind = event.get("type")
            if kind == "ERROR":
                if event["object"].get("code") == 410:
                    raise Gone(410, "Expired", "the watch is to begin anew")
                raise BackendAway(f"kubernetes: {event['object'].get('message')}")
            with self._lock:
                self._confirmed, self._heard_at = time.monotonic(), time.time()
                if kind is None:
                    continue
                found = event["object"]
                version = str(found["metadata"]["resourceVersion"])
                if kind == "DELETED":
                    self._note(found)
                    self._lose(found, self._heard_at)
                elif kind != "BOOKMARK":
                    self._note(found)
        return version

    # Under the lock.

    def _note(self, found: Object) -> None:
        run_id = run_of(found)
        if run_id is None:
            return
        uid = found["metadata"]["uid"]
        known = self._objects.get(uid)
        if known is None or _version(known) <= _version(found):
            self._objects[uid] = _light(found)
            self._runs.setdefault(run_id, {})[uid] = None
        if known is None or _version(known) < _version(found):
            self._tell(run_id)

    def _tell(self, run_id: str) -> None:
        for call in self._told.get(run_id, ()):
            call()

    def _lose(self, found: Object, at: float) -> None:
        run_id = run_of(found)
        uid = found["metadata"]["uid"]
        self._objects.pop(uid, None)
        if run_id is None or run_id not in self._runs:
            return
        self._tell(run_id)
        self._runs[run_id].pop(uid, None)
        if not self._runs[run_id]:
            del self._runs[run_id]
        if run_id in self._removed:
            return
        self._gone[run_id] = (at, _light(found))
        while len(self._gone) > MOST_GONE or next(iter(self._gone.values()))[0] < at - GONE_SECONDS:
            del self._gone[next(iter(self._gone))]

    def _own(self, run_id: str) -> Object:
        return own([self._objects[uid] for uid in self._runs[run_id]], time.time())


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])


KEPT = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "annotations",
)


def _light(found: Object) -> Object:
    """Return what is asked of an object later: a thousand whole pods are tens of megabytes, with their secrets."""
    metadata = found["metadata"]
    kept: dict[str, Any] = {key: metadata[key] for key in KEPT if key in metadata}
    node = {key: found["spec"][key] for key in ("nodeName", "suspend") if key in found.get("spec", {})}
    return {"metadata": kept, "spec": node, "status": found.get("status", {})}
