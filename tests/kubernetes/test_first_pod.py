"""The first pod of a new project comes before the cluster has counted what its quota allows."""

from __future__ import annotations

import threading
import time

import pytest

from quotas.domain.terms_kubernetes_projects import Bounds
from tests.kubernetes.cluster import corner, until

pytestmark = pytest.mark.kubernetes


def test_a_pod_waits_until_its_project_s_quota_is_counted() -> None:
    with corner() as place:
        backend = place.backend()
        launch = place.launch("sleep 1")
        backend.ensure_project(launch.project, Bounds(runs=3))
        path = f"/api/v1/namespaces/{place.site.namespace_of(launch.project)}/resourcequotas/mudeung"
        until(lambda: place.api.get(path)["status"].get("hard"))
        # The cluster counts a quota anew when it changes; until then it is as one whose counting is not done.
        place.api.patch(f"{path}/status", {"status": {"used": None}})
        until(lambda: not place.api.get(path)["status"].get("used"))
        time.sleep(1)  # until the API server itself has heard of it
        changed = threading.Timer(2.0, lambda: place.api.patch(path, {"spec": {"hard": {"pods": "4"}}}))
        changed.start()
        began = time.monotonic()
        try:
            seen = backend.launch(launch)
        finally:
            changed.join()
        assert seen.running
        assert time.monotonic() - began > 1.5
        assert place.api.get(path)["status"]["hard"]["pods"] == "4"
        backend.stop(launch.run_id, 1)
        backend.remove(launch.run_id)
