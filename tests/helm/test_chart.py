"""The chart: what it refuses, and that what it makes is what an API server takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quotas.home import CLUSTER_PORTS, SECRETS
from quotas.settings import Settings, read
from tests.helm.conftest import CHART, Tools, sets

pytestmark = pytest.mark.kubernetes

ROOT = CHART.parents[1]
SMALL = sets(postgresql__enabled="true", evaluation__enabled="true")
CENTRE = [
    *sets(
        database__existingSecret="databases",
        secrets__existingSecret="ours",
        ingress__enabled="true",
        ingress__ingressClassName="nginx",
        agent__enabled="true",
        agent__existingSecret="agents",
        agent__runtimeClassName="nvidia",
        scheduling__podPriority__enabled="true",
        home__storage__existingClaim="files",
        settings__kubernetes_storage_class="fast",
        settings__hold_seconds="3600",
        hub__pdb__enabled="true",
        prePuller__extraImages__torch__name="example.org/torch",
        prePuller__extraImages__torch__tag="v2",
    ),
    "--set-json",
    'ingress.hosts=["gpu.example.org"]',
    "--set-json",
    'ingress.tls=[{"hosts":["gpu.example.org"],"secretName":"tls"}]',
    "--set-json",
    'networkPolicy.apiServer.cidrs=["10.1.0.1/32"]',
    "--set-json",
    'database.cidrs=["10.2.0.0/24"]',
]
BARE = sets(
    database__existingSecret="databases",
    home__storage__enabled="false",
    rbac__create="false",
    rbac__confine="false",
    networkPolicy__enabled="false",
    prePuller__continuous__enabled="false",
    proxy__service__type="NodePort",
)
COVERED = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu")
KUEUE: dict[str, Any] = {
    "enabled": True,
    "localQueue": "research",
    "clusterQueue": "mudeung-chart-tried",
    "topologies": {"mudeung-chart-racks": ["example.org/rack", "kubernetes.io/hostname"]},
    "flavors": {
        "mudeung-chart-h100": {
            "nodeLabels": {"nvidia.com/gpu.product": "H100"},
            "nodeTaints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
            "tolerations": [{"key": "example.org/research", "operator": "Exists"}],
            "topologyName": "mudeung-chart-racks",
        },
        "mudeung-chart-any": {},
    },
    "cohortName": "centre",
    "resourceGroups": [
        {
            "coveredResources": list(COVERED),
            "flavors": [
                {"name": "mudeung-chart-h100", "resources": [{"name": name, "nominalQuota": 8} for name in COVERED]},
                {
                    "name": "mudeung-chart-any",
                    "resources": [{"name": name, "nominalQuota": "1Gi", "borrowingLimit": "1"} for name in COVERED],
                },
            ],
        }
    ],
}
FULL = [
    *CENTRE,
    *sets(
        serviceMonitor__enabled="true",
        serviceMonitor__labels__release="prometheus",
        home__storage__existingClaim="",
        proxy__service__type="LoadBalancer",
        singleuser__networkPolicy__egressAllowRules__nonPrivateIPs="false",
        **{f"{name}__pdb__enabled": "true" for name in ("hub", "portal", "reconciler", "scheduler", "idleness")},
    ),
    *("--set-json", f"kueue={json.dumps(KUEUE)}"),
    *("--set-json", 'singleuser.networkPolicy.reachableCidrs=["10.9.0.0/24"]'),
    *("--set-json", 'imagePullSecrets=[{"name":"pull"}]'),
    *("--set-json", 'scheduling.corePods={"nodeSelector":{"a":"b"},"tolerations":[{"operator":"Exists"}]}'),
    *("--set-json", 'proxy.service={"loadBalancerSourceRanges":["192.0.2.0/24"],"annotations":{"a":"b"}}'),
    *("--set-json", 'hub={"extraEnv":{"A":"b","C":{"valueFrom":{"secretKeyRef":{"name":"x","key":"y"}}}}}'),
]
"""A data centre with everything on: two kinds of object in it are others' than Kubernetes' own."""
LACKING = json.dumps(
    [
        {
            "coveredResources": ["cpu", "memory"],
            "flavors": [{"name": "a", "resources": [{"name": "cpu", "nominalQuota": 1}]}],
        }
    ]
)
SETS = {"small": SMALL, "centre": CENTRE, "bare": BARE}
ALL_SETS = {**SETS, "full": FULL, "maintenance": [*SMALL, *sets(maintenance__enabled="true")]}


def objects(text: str) -> dict[tuple[str, str], Any]:
    """Return what was rendered, by kind and name; no two are the same."""
    found: dict[tuple[str, str], Any] = {}
    for each in yaml.safe_load_all(text):
        if each is not None:
            key = each["kind"], each["metadata"]["name"]
            assert key not in found
            found[key] = each
    return found


def pods(rendered: dict[tuple[str, str], Any]) -> Iterator[tuple[str, Any]]:
    for (_, name), each in rendered.items():
        if "template" in each.get("spec", {}):
            yield name, each["spec"]["template"]["spec"]


def test_schema_and_page_follow_from_values_and_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "helm.schema", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", ALL_SETS.values(), ids=ALL_SETS)
def test_helm_finds_nothing_wrong(helm: Tools, values: list[str]) -> None:
    done = helm.run("helm", "lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_an_api_server_takes_every_object(cluster: Tools, values: list[str], tried: str) -> None:
    text = cluster.template(*values, namespace=tried)
    done = cluster.run("kubectl", "apply", "--dry-run=server", "--namespace", tried, "-f", "-", given=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(objects(text))
    # The agent alone looks into its machine; everything else is as restricted as pods can be.
    violating = [line for line in done.stderr.splitlines() if "would violate PodSecurity" in line]
    agents = 1 if values is CENTRE else 0
    assert len(violating) == agents, done.stderr
    assert all("hostPID" in line or "host namespaces" in line for line in violating)


@pytest.fixture(scope="module")
def tried(cluster: Tools) -> Iterator[str]:
    """A namespace in which objects are tried."""
    name = "mudeung-chart-tried"
    cluster.run("kubectl", "create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted", "--overwrite")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (sets(hub__foo="1"), "'foo' not allowed"),
        (sets(postgress__enabled="true"), "'postgress' not allowed"),
        (sets(settings__hold_secnds="1"), "'hold_secnds' not allowed"),
        (sets(settings__backend="local"), "'backend' not allowed"),
        (sets(settings__database_url="x"), "'database_url' not allowed"),
        (sets(settings__hold_seconds="0"), "/settings/hold_seconds"),
        (sets(settings__language="fr"), "/settings/language"),
        (sets(proxy__service__type="Cluster"), "/proxy/service/type"),
        (sets(hub__resources__request__cpu="1"), "'request' not allowed"),
        (sets(ingress__enabled="yes"), "/ingress/enabled"),
        (sets(settings__kubernetes_queue="x"), "'kubernetes_queue' not allowed"),
        (["--set-json", 'kueue.flavors={"a":{"labels":{}}}'], "'labels' not allowed"),
        (["--set-json", 'kueue.resourceGroups=[{"flavors":[]}]'], "/kueue/resourceGroups/0"),
        (sets(singleuser__networkPolicy__egressAllowRules__privateIPs="true"), "'privateIPs' not allowed"),
    ],
)
def test_a_value_that_nothing_reads_is_refused(helm: Tools, values: list[str], said: str) -> None:
    done = helm.run("helm", "template", "mudeung", str(CHART), *sets(database__existingSecret="databases"), *values)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "database.existingSecret names"),
        (sets(postgresql__enabled="true", database__existingSecret="x"), "one of the two"),
        ([*SMALL, *sets(ingress__enabled="true"), "--set-json", 'ingress.hosts=["a.b"]'], "forwarded port only"),
        ([*SMALL, *sets(proxy__service__type="LoadBalancer")], "forwarded port only"),
        (sets(database__existingSecret="x", ingress__enabled="true"), "at least one host"),
        (sets(database__existingSecret="x", agent__enabled="true"), "agent.existingSecret"),
        (sets(database__existingSecret="x", kueue__enabled="true"), "has to cover cpu"),
        (sets(database__existingSecret="x", kueue__enabled="true", kueue__localQueue=""), "kueue.localQueue"),
        ([*FULL, "--set-json", f"kueue.resourceGroups={LACKING}"], "has to cover ephemeral-storage"),
    ],
)
def test_values_that_do_not_go_together_are_refused(helm: Tools, values: list[str], said: str) -> None:
    done = helm.run("helm", "template", "mudeung", str(CHART), *values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_platform_takes_the_settings_as_the_chart_writes_them(
    helm: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*sets(settings__language="en", settings__kubernetes_home_bytes="1099511627776"), "--namespace", "gpu"]
    rendered = objects(helm.template(*FULL, *sets(home__storage__existingClaim="files"), *more))
    text = rendered["ConfigMap", "platform-settings"]["data"]["mudeung.toml"]
    file = tmp_path / "mudeung.toml"
    file.write_text(text)
    monkeypatch.setenv("MUDEUNG_SETTINGS", str(file))
    settings = read(tmp_path)
    assert settings == Settings(
        backend="kubernetes",
        host="0.0.0.0",  # noqa: S104 - a pod's address
        evaluation=False,
        language="en",
        public_url="https://gpu.example.org",
        hold_seconds=3600,
        kubernetes_namespace="gpu",
        kubernetes_home_bytes=2**40,
        kubernetes_storage_class="fast",
        kubernetes_files_claim="files",
        kubernetes_priority_classes=True,
        kubernetes_queue="research",
        kubernetes_cluster_queue="mudeung-chart-tried",
        kubernetes_reachable_cidrs=("10.9.0.0/24",),
        kubernetes_internet=False,
    )


def test_every_pod_is_restricted_and_says_what_it_needs(helm: Tools) -> None:
    for values in ALL_SETS.values():
        for name, pod in pods(objects(helm.template(*values))):
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
                assert "memory" in container["resources"]["limits"], name
                assert container["securityContext"]["readOnlyRootFilesystem"], name
                assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            if name != "agent":
                assert pod["securityContext"]["runAsNonRoot"], name
                assert not pod.get("hostPID"), name


def test_each_program_is_given_the_secrets_that_it_uses_and_no_others(helm: Tools) -> None:
    rendered = objects(helm.template(*CENTRE))
    given: dict[str, set[str]] = {}
    for name, pod in pods(rendered):
        for volume in pod.get("volumes", ()):
            for source in volume.get("projected", {}).get("sources", ()):
                given.setdefault(name, set()).update(item["key"] for item in source["secret"]["items"])
    assert given == {
        "hub": {*SECRETS, "cookie_secret", "database_url", "hub_database_url"} - {"metrics_token"},
        "portal": {"portal_token", "session_key", "metrics_token", "database_url"},
        "reconciler": {"reconciler_token", "database_url"},
        "scheduler": {"session_key", "database_url"},
        "idleness": {"idleness_token", "database_url"},
        "migration": {"database_url"},
    }


def test_the_services_are_where_the_programs_look_for_each_other(helm: Tools) -> None:
    rendered = objects(helm.template(*SMALL))
    for service, port in (("proxy-api", "proxy_api"), ("hub", "hub"), ("portal", "portal")):
        assert rendered["Service", service]["spec"]["ports"][0]["port"] == CLUSTER_PORTS[port]


def test_only_who_asks_the_api_server_has_a_token_for_it(helm: Tools) -> None:
    having = {name for name, pod in pods(objects(helm.template(*CENTRE))) if pod["automountServiceAccountToken"]}
    assert having == {"hub", "reconciler", "scheduler"}


def test_another_setting_leaves_everyone_s_connections_alone(helm: Tools) -> None:
    key = "Deployment", "proxy"
    before, after = (objects(helm.template(*SMALL, *more)) for more in ([], sets(settings__language="en")))
    assert before[key] == after[key]
    assert before["Deployment", "hub"] != after["Deployment", "hub"]


def test_prometheus_asks_with_the_metrics_token(helm: Tools) -> None:
    monitor = objects(helm.template(*SMALL, *sets(serviceMonitor__enabled="true")))["ServiceMonitor", "portal"]
    endpoint = monitor["spec"]["endpoints"][0]
    assert endpoint["path"] == "/services/portal/metrics"
    assert endpoint["authorization"]["credentials"] == {"name": "platform-secrets", "key": "metrics_token"}
