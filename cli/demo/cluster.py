"""A platform on a cluster for the demonstration: installed by helm in a namespace that nobody else has."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.demo.forward import Forward
from cli.demo.kubectl import CALL_SECONDS, Tools
from cli.demo.machines import Machine, machines, require_images
from cli.demo.platform import TAIL_LINES, password_of
from cli.demo.removal import OWN_LABEL, namespaces_of, remove
from cli.demo.story import Differs
from cli.session import Problem, Session
from cli.supervision.preparation import ACCOUNTS
from cli.supervision.programs import ROOT
from quotas.domain.devices import MODELS
from quotas.domain.profiles import Profile
from quotas.domain.terms_docker import PROJECT_LABEL
from quotas.domain.terms_kubernetes import HOME_LABEL, resource_of

CHART = ROOT / "helm" / "mudeung"
RELEASE = "mudeung"
HOME = "/var/lib/mudeung"
NOTEBOOK_IMAGE = "mudeung/notebook:latest"
"""What the profiles of the example centre have."""
PROGRAMS = ("hub", "proxy", "portal", "reconciler", "scheduler", "idleness")
NAMESPACE = re.compile(r"[a-z]([a-z0-9-]{0,24}[a-z0-9])?")
INSTALL_SECONDS = 300.0
READY_SECONDS = 300.0
ANSWER_SECONDS = 60.0
TROUBLE_SECONDS = 60.0
"""How long a pod may have no machine, or fail to begin, as that can pass by itself."""
TELL_SECONDS = 10.0
POLL_SECONDS = 2.0
TOLD_COLUMNS = 300
SMALL = {"resources": {"requests": {"cpu": "10m"}}}
"""A cluster for a look has few cores, and servers have to find room beside the platform."""


@dataclass(frozen=True)
class Options:
    """Where and with what it is shown: `model` is the device of the server, None for none; `sets` are helm's."""

    namespace: str
    sets: tuple[str, ...] = ()
    model: str | None = "h100"


def device_resource(model: str | None) -> str | None:
    """Return the extended resource by which the cluster knows the device. Raises Problem for an unknown one."""
    if model is None:
        return None
    if model not in {each.code for each in MODELS}:
        raise Problem(
            f"model: {model!r:.60} is none that the platform knows; docs/rates.md lists them",
            f"model: {model!r:.60}은(는) 알려진 장치가 아닙니다. 목록은 docs/rates.md에 있습니다",
        )
    return resource_of(Profile("demo", "", "", "", 1, 1, 1, model, 1))


@dataclass
class ClusterPlatform:
    """The chart's release in a namespace of its own, with the namespaces of its projects."""

    session: Session
    options: Options
    tools: Tools = field(default_factory=Tools)
    context: str = ""
    machines: Sequence[Machine] = ()
    url: str = ""
    forward: Forward | None = None
    made: bool = False

    @property
    def language(self) -> str:
        return self.session.language

    @property
    def resource(self) -> str | None:
        return device_resource(self.options.model)

    @property
    def devices(self) -> int:
        """How many devices the cluster's machines offer."""
        return sum(each.devices for each in self.machines)

    def look(self) -> None:
        """All that it takes is there, and nothing is in its way; nothing has been made. Raises Problem."""
        namespace = self.options.namespace
        if NAMESPACE.fullmatch(namespace) is None:
            raise Problem(
                f"namespace: {namespace!r:.80} is none: a-z, 0-9 and hyphens, a letter first, at most 26 characters",
                f"namespace: {namespace!r:.80} 사용 불가: 영문 소문자로 시작, 소문자·숫자·하이픈, 26자 이내",
            )
        resource = self.resource
        if not CHART.is_dir():
            raise Problem(f"chart: there is no {CHART}", f"chart: {CHART}이(가) 없습니다")
        self.context = self.tools.require()
        try:
            self._refuse_if_used()
            self.machines = machines(self.tools.items("nodes"), resource)
        except Differs as differs:
            raise Problem(f"cluster: {differs.came}", f"cluster: {differs.came}") from differs

    def _refuse_if_used(self) -> None:
        namespace = self.options.namespace
        found = namespaces_of(self.tools, namespace)
        if not found:
            return
        names = ", ".join(found)
        remove_it = f"mudeung demo --backend kubernetes --namespace {namespace} --remove"
        raise Problem(
            f"namespace: {names} is there already; --namespace names another, and `{remove_it}` removes what an earlier"
            " demonstration left",
            f"namespace: {names}이(가) 이미 있습니다. --namespace로 다른 이름을 지정하세요. 이전 시연이 남긴 것은"
            f" `{remove_it}`로 지웁니다",
        )

    def occupy(self) -> None:
        """The namespace is made, and the machines have the images. Raises Problem."""
        namespace = self.options.namespace
        rendered = self.tools.run("helm", "template", *self._chart(), given=self._values(), seconds=CALL_SECONDS)
        if rendered.returncode != 0:
            raise Problem(f"helm: {rendered.stderr.strip()}", f"helm: {rendered.stderr.strip()}")
        labels = {OWN_LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"}
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
        self.made = True
        self.tools.kubectl("create", "--filename", "-", given=json.dumps(made))
        images = re.findall(r"^\s*(?:- )?image: \"?([^\s\"]+)\"?$", rendered.stdout, re.MULTILINE)
        require_images(self.tools, namespace, self.machines, [*images, NOTEBOOK_IMAGE], self.session.say)

    def install(self) -> str:
        """The platform runs and answers at `url`; return helm's command. Raises Differs when it does not come up."""
        done = self.tools.run("helm", "install", *self._chart(), given=self._values(), seconds=INSTALL_SECONDS)
        if done.returncode != 0:
            raise Differs("helm install to succeed", done.stderr.strip()[-2000:])
        self._wait_until_ready()
        words = ("kubectl", "--namespace", self.options.namespace, "port-forward", "service/proxy-public")
        self.forward = Forward(words, 80, "/hub/login")
        # The hub is ready a moment before the proxy knows of it.
        self.forward.open(ANSWER_SECONDS, _nothing)
        self.url = self.forward.url
        sets = [word for each in self.options.sets for word in ("--set", each)]
        return shlex.join(["helm", "install", RELEASE, "helm/mudeung", "--namespace", self.options.namespace, *sets])

    def _chart(self) -> list[str]:
        sets = [word for each in self.options.sets for word in ("--set", each)]
        return [RELEASE, str(CHART), "--namespace", self.options.namespace, "--values", "-", *sets]

    def _values(self) -> str:
        """Return the values of an evaluation platform, small, of the images that `make` builds."""
        image = {"tag": "latest", "pullPolicy": "IfNotPresent"}
        # Storage that one machine mounts is enough for one, and all that a small cluster may have.
        access = "ReadWriteOnce" if len(self.machines) == 1 else "ReadWriteMany"
        values: dict[str, Any] = {
            **dict.fromkeys((*PROGRAMS, "migration"), SMALL),
            "image": {"name": "mudeung/platform", **image},
            "evaluation": {"enabled": True},
            "postgresql": {
                "enabled": True,
                "image": {"name": "mudeung/postgresql", **image},
                "storage": {"capacity": "1Gi"},
                **SMALL,
            },
            "home": {"storage": {"capacity": "1Gi", "accessMode": access}},
            "prePuller": {"continuous": {"enabled": False}},
            "settings": {
                "kubernetes_namespace_prefix": f"{self.options.namespace}-p-",
                "kubernetes_home_bytes": 2**30,
                "kubernetes_project_bytes": 2**30,
            },
        }
        return json.dumps(values)

    def _wait_until_ready(self) -> None:
        """Every program is ready. Raises Differs when one is not in time, or fails for long."""
        began = told = time.monotonic()
        since: dict[str, float] = {}
        while True:
            found = self.tools.items("deployments,statefulsets,pods", "--namespace", self.options.namespace)
            waits = [_name(each) for each in found if each["kind"] != "Pod" and not _is_ready(each)]
            if not waits and any(each["kind"] == "Deployment" for each in found):
                return
            now = time.monotonic()
            troubles = {_name(each): why for each in found if each["kind"] == "Pod" and (why := trouble(each))}
            since = {name: since.get(name, now) for name in troubles}
            lasting = [f"{name}: {troubles[name]}" for name, at in since.items() if now - at > TROUBLE_SECONDS]
            if lasting or now - began > READY_SECONDS:
                raise Differs(
                    f"every program ready within {READY_SECONDS:.0f} s", lasting or f"not: {', '.join(waits)}"
                )
            if now - told >= TELL_SECONDS:
                told, waited = now, now - began
                self.session.say(
                    f"  waiting for {', '.join(waits)} … {waited:.0f} s",
                    f"  {', '.join(waits)} 기다리는 중 … {waited:.0f}초",
                )
            time.sleep(POLL_SECONDS)

    def in_hub(self, *words: str, given: str | None = None, seconds: float = CALL_SECONDS) -> tuple[int, str, str]:
        """Run a command in the hub's pod; return its exit code and what it printed, the errors apart."""
        interactive = ["--stdin"] if given is not None else []
        where = ["--namespace", self.options.namespace, "exec", *interactive, "deployment/hub", "--container", "hub"]
        done = self.tools.run("kubectl", *where, "--", *words, given=given, seconds=seconds)
        return done.returncode, done.stdout, done.stderr

    def password(self, username: str) -> str:
        """Return the person's password, as the first start wrote it down."""
        code, printed, errors = self.in_hub("cat", f"{HOME}/{ACCOUNTS}")
        if code != 0:
            raise Differs(f"accounts in {HOME}/{ACCOUNTS}", errors.strip())
        return password_of(username, printed)

    def command(self, *words: str, given: str | None = None) -> tuple[int, str]:
        """Run `mudeung` in the hub's pod; return its exit code and what it printed."""
        code, printed, errors = self.in_hub(*self._mudeung(words), given=given)
        return code, (printed + errors).rstrip()

    def read(self, *words: str) -> Any:
        """Run `mudeung` with JSON as its output. Raises Differs when it fails."""
        code, printed, errors = self.in_hub(*self._mudeung((*words, "-o", "json")))
        if code != 0:
            raise Differs(f"mudeung {' '.join(words)} to succeed", f"exit {code}: {printed}{errors}")
        return json.loads(printed)

    def _mudeung(self, words: Sequence[str]) -> tuple[str, ...]:
        return ("mudeung", *words, "--home", HOME, "--lang", self.language)

    def of_project(self, project: str, kind: str) -> list[dict[str, Any]]:
        """Return what the platform has made of this kind for the project."""
        selector = f"{HOME_LABEL}={self.options.namespace},{PROJECT_LABEL}={project}"
        return self.tools.items(kind, "--all-namespaces", "--selector", selector)

    def logs(self) -> str:
        """Return where the pods stand, what happened last, and the end of each log."""
        told: list[str] = []
        for namespace in namespaces_of(self.tools, self.options.namespace):
            told += [f"=== {namespace}", self._printed("get", "pods", "--output", "wide", namespace=namespace)]
            events = self._printed("get", "events", "--sort-by=.lastTimestamp", namespace=namespace).splitlines()
            told += ["--- events", *events[-TAIL_LINES:]]
            for pod in self.tools.items("pods", "--namespace", namespace):
                words = ("logs", _name(pod), "--all-containers", f"--tail={TAIL_LINES}")
                lines = self._printed(*words, namespace=namespace).splitlines()
                told += [f"--- {_name(pod)}", *(line[:TOLD_COLUMNS] for line in lines)]
        if self.forward is not None:
            told += ["--- kubectl port-forward", self.forward.printed()]
        return "\n".join(told)

    def _printed(self, *words: str, namespace: str) -> str:
        done = self.tools.run("kubectl", "--namespace", namespace, *words)
        return (done.stdout + done.stderr).rstrip()

    def end(self) -> None:
        """The forwarded port is closed; the platform on the cluster is as it was."""
        if self.forward is not None:
            self.forward.close()
            self.forward = None

    def remove(self) -> list[str]:
        """Nothing of it is on the cluster; return the volumes that its storage keeps, in words. Raises Differs."""
        self.end()
        if not self.made:
            return []
        kept = remove(self.tools, self.options.namespace, RELEASE, self.session.say)
        self.made = False
        return kept


def trouble(pod: Mapping[str, Any]) -> str:
    """Return why the pod does not come to run, in the cluster's words; empty while nothing is wrong."""
    status = pod["status"]
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", condition.get("reason", "")))
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container["state"].get("waiting", {})
        if waiting and waiting.get("reason") not in {"ContainerCreating", "PodInitializing"}:
            return f"{waiting.get('reason')}: {waiting.get('message', '')}"
        # It may have begun anew just now, to end in the same way.
        ended = container["state"].get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if ended.get("exitCode") and not container["ready"]:
            return f"{container['name']} ended with {ended['exitCode']}, {container['restartCount']} times begun anew"
    return ""


def _is_ready(owner: Mapping[str, Any]) -> bool:
    status, wanted = owner["status"], owner["spec"]["replicas"]
    seen = status.get("observedGeneration") == owner["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas", 0) == wanted == status.get("updatedReplicas", 0))


def _name(found: Mapping[str, Any]) -> str:
    return str(found["metadata"]["name"])


_nothing: Callable[[], None] = lambda: None  # noqa: E731
