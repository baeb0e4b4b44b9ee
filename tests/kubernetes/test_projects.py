"""What a project has on the cluster: the second line of limits, whom its pods reach, and whose files they see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.kubernetes_api import ApiRefused
from quotas.domain.launch import Launch, Mount
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes import PORT, pod_fields
from quotas.domain.terms_kubernetes_projects import Bounds, Reach
from quotas.domain.units import InvalidValue
from tests.kubernetes.cluster import IMAGE, TINY, Corner, corner, until

pytestmark = pytest.mark.kubernetes

LISTEN = "python3 -m http.server {} --bind 0.0.0.0"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 4); print('reached')"


@pytest.fixture(scope="module")
def place() -> Iterator[Corner]:
    with corner() as made:
        yield made


@pytest.fixture(scope="module")
def backend(place: Corner) -> KubernetesBackend:
    return place.backend()


def said(backend: KubernetesBackend, launch: Launch) -> str:
    """Return what the launch printed once it has ended."""
    backend.launch(launch)
    until(lambda: (now := backend.inspect(launch.run_id)) and not now.running)
    printed = backend.log(launch.run_id, 4000)
    backend.remove(launch.run_id)
    return printed


def test_the_cluster_refuses_what_is_beyond_the_bounds(place: Corner, backend: KubernetesBackend) -> None:
    gpu = replace(TINY, device_model="h100", device_count=1)
    backend.ensure_project("bounded", Bounds(runs=1, devices={"nvidia.com/gpu": 0}))
    first = place.launch(project="bounded")
    backend.launch(first)
    with pytest.raises(InvalidValue, match="exceeded quota") as refused:
        backend.launch(place.launch(project="bounded"))
    assert "pods=1" in refused.value.in_language("ko")
    backend.stop(first.run_id, 1)
    backend.remove(first.run_id)
    with pytest.raises(InvalidValue, match=r"nvidia\.com/gpu"):
        backend.launch(place.launch(project="bounded", profile=gpu))
    backend.ensure_project("bounded", Bounds(runs=1, devices={"nvidia.com/gpu": 1}))
    backend.ensure_project("bounded")
    last = place.launch(project="bounded", profile=gpu)
    assert until(lambda: backend.launch(last)).running
    backend.stop(last.run_id, 1)
    backend.remove(last.run_id)


def test_a_namespace_admits_restricted_pods_only(place: Corner, backend: KubernetesBackend) -> None:
    backend.ensure_project("vision")
    ours = pod_fields(place.launch(), place.site)
    for changes in (
        {"hostNetwork": True},
        {"securityContext": {"runAsUser": 0}},
        {"volumes": [*ours["spec"]["volumes"], {"name": "root", "hostPath": {"path": "/"}}]},
    ):
        pod: dict[str, Any] = {**ours, "spec": {**ours["spec"], **changes}}
        with pytest.raises(ApiRefused, match="violates PodSecurity"):
            place.api.post(f"/api/v1/namespaces/{place.site.namespace_of('vision')}/pods", pod)


def test_what_was_there_already_under_the_name_is_nobody_s_project(place: Corner, backend: KubernetesBackend) -> None:
    name = place.site.namespace_of("foreign")
    place.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        with pytest.raises(InvalidValue, match="not the platform's"):
            backend.launch(place.launch(project="foreign"))
    finally:
        place.api.delete(f"/api/v1/namespaces/{name}")


def test_limits_that_somebody_took_away_or_changed_are_made_anew(place: Corner) -> None:
    backend = place.backend()
    backend.ensure_project("mended")
    folder = f"/apis/networking.k8s.io/v1/namespaces/{place.site.namespace_of('mended')}/networkpolicies/mudeung"
    rules = place.api.get(folder)["spec"]
    place.api.delete(folder)
    backend.projects.forget("mended")
    backend.ensure_project("mended")
    assert place.api.get(folder)["spec"] == rules
    quota = f"/api/v1/namespaces/{place.site.namespace_of('mended')}/resourcequotas/mudeung"
    backend.ensure_project("mended", Bounds(runs=2))
    assert place.api.get(quota)["spec"]["hard"]["pods"] == "2"
    place.backend().ensure_project("mended")  # one that does not know the bounds leaves them
    assert place.api.get(quota)["spec"]["hard"]["pods"] == "2"
    backend.ensure_project("mended", Bounds(cpu_millis=500))
    assert {"pods", "requests.cpu"} & set(place.api.get(quota)["spec"]["hard"]) == {"requests.cpu"}


def test_pods_reach_the_platform_and_dns_and_no_other_pod(place: Corner) -> None:
    """The API server of a cluster may have a public address, which is then to be forbidden by name."""
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    api_server = [f"{at}/32" for each in place.api.get(slices)["endpoints"] for at in each["addresses"]]
    backend = KubernetesBackend(place.site, Reach(forbidden=tuple(api_server)))
    place.backends.append(backend)
    for project in ("vision", "robots"):
        backend.ensure_project(project)
    serve = " & ".join(LISTEN.format(port) for port in (8081, 5432))
    pod = {
        "metadata": {"name": "platform"},
        "spec": {"containers": [{"name": "x", "image": IMAGE, "command": ["sh", "-c", f"{serve} & wait"]}]},
    }
    platform = f"/api/v1/namespaces/{place.site.namespace}/pods"
    place.api.post(platform, pod)
    servers = [place.launch(LISTEN.format(PORT), project=project) for project in ("vision", "robots")]
    for each in servers:
        backend.launch(each)
    mine, other = (until(lambda each=each: backend.whereabouts(each.run_id).address) for each in servers)
    hub = until(lambda: place.api.get(f"{platform}/platform")["status"].get("podIP"))
    until(lambda: all(backend.inspect(each.run_id).started_at for each in servers))
    targets = {
        "hub": (hub, 8081),
        "database": (hub, 5432),
        "other project": (other, PORT),
        "same project": (mine, PORT),
        "API server": ("kubernetes.default.svc", 443),
        "metadata": ("169.254.169.254", 80),
    }
    lines = [f'for i in 1 2 3 4 5; do python3 -c "{CONNECT}" {hub} 8081 2>/dev/null >&2 && break; sleep 1; done']
    for name, (host, port) in targets.items():
        lines.append(f'echo "{name}: $(python3 -c "{CONNECT}" {host} {port} 2>&1 | tail -1)"')
    lines.append("python3 -c \"import socket; print('dns:', socket.gethostbyname('kubernetes.default.svc'))\"")
    printed = said(backend, place.launch("\n".join(lines)))
    found = dict(line.split(": ", 1) for line in printed.strip().splitlines())
    assert {name for name, word in found.items() if word == "reached"} == {"hub"}, printed
    assert found["dns"].count(".") == 3
    # The platform reaches the servers at their one port.
    inside = pod["spec"]["containers"][0]  # type: ignore[index]
    check = {**inside, "command": ["python3", "-c", CONNECT, mine, str(PORT)]}
    place.api.post(platform, {"metadata": {"name": "proxy"}, "spec": {"restartPolicy": "Never", "containers": [check]}})
    end = until(lambda: (at := place.api.get(f"{platform}/proxy")["status"])["phase"] in ("Succeeded", "Failed") and at)
    assert end["phase"] == "Succeeded"
    for each in servers:
        backend.stop(each.run_id, 1)
        backend.remove(each.run_id)


def test_each_project_and_person_has_files_of_their_own(place: Corner, backend: KubernetesBackend) -> None:
    """A volume may have been another's before, on a cluster whose volumes are made by hand: hence the names."""
    it = place.site.namespace
    assert said(backend, place.launch(f"echo ours > {it}; echo mine > ~/{it}; cat {it}", project="vision")) == "ours\n"
    assert said(backend, place.launch(f"cat {it} ~/{it} 2>&1", project="robots")).count("No such file") == 2
    other = said(backend, place.launch(f"cat {it}; cat ~/{it} 2>&1", person="lee", project="vision"))
    assert other.startswith("ours\n")
    assert "No such file" in other
    assert said(backend, place.launch(f"cat {it} ~/{it}", project="vision")) == "ours\nmine\n"
    line = f"pwd; cat project/{it}; touch project/{it} 2>&1; echo more >> {it}; cat {it}"
    lines = said(backend, place.launch(line, project="vision", reads_only=True)).splitlines()
    assert lines[:2] == ["/home/jovyan", "ours"]
    assert "Read-only file system" in lines[2]
    assert lines[3:] == ["mine", "more"]
    alone = place.launch(f"cat {it}; ls ~", RunKind.BATCH, project="vision")
    assert said(backend, alone) == "ours\nproject\n"


def test_projects_see_their_folders_of_the_platform_s_own_volume(place: Corner) -> None:
    claims = f"/api/v1/namespaces/{place.site.namespace}/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    place.api.post(claims, {"metadata": {"name": "home"}, "spec": spec})
    making = "cd /h && rm -rf projects batch && mkdir -p projects/shared projects/secret batch/r1/out"
    making += " && echo it > projects/shared/it && echo in > batch/r1/input && chmod -R a+rwX ."
    mount = [{"name": "h", "mountPath": "/h"}]
    maker = {"name": "x", "image": IMAGE, "command": ["sh", "-c", making], "volumeMounts": mount}
    volume = {"name": "h", "persistentVolumeClaim": {"claimName": "home"}}
    pods = f"/api/v1/namespaces/{place.site.namespace}/pods"
    body = {"restartPolicy": "Never", "containers": [maker], "volumes": [volume]}
    place.api.post(pods, {"metadata": {"name": "maker"}, "spec": body})
    until(lambda: place.api.get(f"{pods}/maker")["status"]["phase"] == "Succeeded")
    backend = place.backend(files_claim="home", files_root="/srv/home")
    line = (
        "ls it; ls /mnt/run; cat /mnt/run/input; echo out > /mnt/run/out/o; touch /mnt/run/x 2>&1; cat /mnt/run/out/o"
    )
    launch = place.launch(
        line,
        RunKind.BATCH,
        project="shared",
        project_folder="/srv/home/projects/shared",
        mounts=(
            Mount("/srv/home/batch/r1", "/mnt/run"),
            Mount("/srv/home/batch/r1/out", "/mnt/run/out", read_only=False),
        ),
    )
    lines = said(backend, launch).splitlines()
    assert lines[:4] == ["it", "input", "out", "in"]
    assert "Read-only file system" in lines[4]
    assert lines[5] == "out"
    with pytest.raises(InvalidValue, match="not below"):
        backend.launch(replace(launch, run_id=place.launch().run_id, project_folder="/srv/home/../etc"))


def test_a_namespace_that_went_behind_our_back_is_made_again(place: Corner, backend: KubernetesBackend) -> None:
    backend.ensure_project("fleeting")
    path = f"/api/v1/namespaces/{place.site.namespace_of('fleeting')}"
    place.api.delete(path)
    until(lambda: place.api.find(path) is None)
    assert said(backend, place.launch("echo here", project="fleeting")) == "here\n"
