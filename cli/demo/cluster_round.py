"""The round on a cluster: an operator brings its devices in, a pod holds one, a scheduled run is a Job."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.demo.browser import Browser
from cli.demo.cluster import NOTEBOOK_IMAGE, ClusterPlatform
from cli.demo.round import MEMBER, OFFERED, PROJECT, Plan, by_api, refuse
from cli.demo.story import Differs, NotDone, Step, Story
from quotas.domain.launch import RUN_LABEL
from quotas.domain.runs import RunKind
from quotas.domain.terms_docker import KIND_LABEL, PERSON_LABEL
from quotas.domain.terms_kubernetes import CONTAINER, pod_name
from quotas.domain.terms_kubernetes_projects import NAME as QUOTA

POOL = "cluster"
DEVICE_PROFILE, CPU_PROFILE = "cluster-device", "cluster-cpu"
SHORT_PROJECT, PI, ORGANISATION, IMAGE = "short-budget", "pi", "saebyeok", "scientific"
"""A project whose award buys a fraction of a second; its applicant is of the example centre, and so is the image."""
CORES = "0.4"
CPU_GFLOPS, DEVICE_GFLOPS, MOST_GFLOPS = 40, 10_000, 80_000
"""The rates where no source states a device's peak, or states one above what the project may run at once."""
SMALLEST_SHARE = "0.000001"
RUN_SECONDS = 300.0
GONE_SECONDS = 90.0
POLL_SECONDS = 1.0


def set_up(platform: ClusterPlatform, story: Story) -> None:
    """What an operator does on a cluster: its devices are in a pool, and a profile of one is rated and offered."""
    title = "An operator brings the cluster's devices in", "운영자가 클러스터의 장치를 등록"
    if platform.options.model is None:
        title = "An operator offers a profile", "운영자가 프로필을 제공"
    with story.step(*title) as step:
        names = "--name-ko", "클러스터", "--name-en", "Cluster"
        profiles = [CPU_PROFILE]
        if platform.options.model is not None:
            _pool(platform, step, platform.options.model, names)
            profiles.append(DEVICE_PROFILE)
        for profile in profiles:
            _operate(platform, step, "profiles", "add", profile, *_profile(platform, profile))
        card = _card(platform, profiles)
        _operate(platform, step, "rates", "publish", "/dev/stdin", "--yes", given=card)
        for profile in profiles:
            _operate(platform, step, "projects", "profiles", "offer", PROJECT, profile)
        if platform.options.model is not None:
            _short_project(platform, step)


def _pool(platform: ClusterPlatform, step: Step, model: str, names: tuple[str, ...]) -> None:
    """The cluster's pool has one such device to give, and no other pool has any: those elsewhere are simulated."""
    _operate(platform, step, "pools", "add", POOL, *names)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    count = str(platform.devices)
    _operate(platform, step, "pools", "phase", POOL, model, "--installed", count, "--from", now)
    for row in platform.read("pools", "list"):
        spare = int(row["healthy"]) - int(row["drained"]) - (1 if row["pool"] == POOL else 0)
        if row["device"] == model and spare > 0:
            _operate(platform, step, "pools", "drain", str(row["pool"]), model, str(spare), "--reason", "demo")


def _profile(platform: ClusterPlatform, code: str) -> tuple[str, ...]:
    size = ("--image", IMAGE, "--cores", CORES, "--memory-gib", "1", "--storage-gib", "2")
    if code == CPU_PROFILE:
        return ("--name-ko", "클러스터 CPU", "--name-en", "Cluster, CPU", *size)
    device = ("--device", str(platform.options.model), "--devices", "1")
    return ("--name-ko", "클러스터 장치 1개", "--name-en", "Cluster, one device", *size, *device)


def _card(platform: ClusterPlatform, profiles: list[str]) -> str:
    """Return the rate card in force, as a file, from now on and with the profiles."""
    code, printed = platform.command("rates", "show", "--toml")
    if code != 0:
        raise Differs("mudeung rates show --toml to succeed", printed)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    card = re.sub(r"^effective_from = .*$", f"effective_from = {now}", printed, count=1, flags=re.MULTILINE)
    lines = [card]
    for profile in profiles:
        gflops = CPU_GFLOPS if profile == CPU_PROFILE else DEVICE_GFLOPS
        rule = ['rule = "assigned"', f"gflops = {gflops}", 'reason = "for the demonstration only"']
        if profile == DEVICE_PROFILE and _is_stated(platform, card):
            rule = ['rule = "fact"']
        lines += ["", f"[rates.{profile}]", f'approver = "{PI}"', *rule]
    return "\n".join(lines) + "\n"


def _is_stated(platform: ClusterPlatform, card: str) -> bool:
    """Return whether a source states the device's peak, and the project may run as much at once."""
    device = str(platform.options.model).partition("-mig-")[0]
    precision = re.search(r'^reference_precision = "(\w+)"', card, re.MULTILINE)
    words = ["--device", device, *(("--precision", precision[1]) if precision else ())]
    rows = [row for row in platform.read("rates", "facts", *words) if row["density"] == "dense"]
    return bool(rows) and all(int(row["peak_gflops"]) <= MOST_GFLOPS for row in rows)


def _short_project(platform: ClusterPlatform, step: Step) -> None:
    [profile] = [row for row in platform.read("profiles", "list") if row["code"] == DEVICE_PROFILE]
    today = datetime.now(UTC).date()
    starts, ends = (today - timedelta(days=1)).isoformat(), (today + timedelta(days=2)).isoformat()
    titles = ("--title-ko", "부족한 예산", "--title-en", "A budget that is short")
    size = ("--award", f"{profile['rate_gflops']}GF", "--starts", starts, "--ends", ends)
    _operate(
        platform, step, "projects", "apply", SHORT_PROJECT, "--by", PI, "--organisation", ORGANISATION, *titles, *size
    )
    grant = ("--profiles", DEVICE_PROFILE, "--utilisation", SMALLEST_SHARE, "--consent")
    _operate(platform, step, "projects", "approve", SHORT_PROJECT, *grant)


def _operate(platform: ClusterPlatform, step: Step, *words: str, given: str | None = None) -> None:
    """Run an operator's command, and note it. Raises Differs when it fails."""
    code, printed = platform.command(*words, given=given)
    step.expect(code == 0, f"mudeung {shlex.join(words)} to succeed", f"exit {code}: {printed}")
    step.note(f"mudeung {shlex.join(words)}")


@dataclass
class ClusterPlan(Plan):
    """The round on `platform`, beside which the cluster itself is asked for pods, Jobs and quotas."""

    platform: ClusterPlatform = field(kw_only=True)
    server: str = field(init=False)
    batch: str = CPU_PROFILE
    offered: frozenset[str] = field(init=False)
    run_seconds: float = RUN_SECONDS
    job: dict[str, Any] | None = field(default=None, init=False)
    job_pods: list[dict[str, Any]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        device = self.platform.options.model is not None
        self.server = DEVICE_PROFILE if device else CPU_PROFILE
        self.offered = OFFERED | ({CPU_PROFILE, DEVICE_PROFILE} if device else {CPU_PROFILE})

    def while_running(self, story: Story) -> None:
        """The pod holds the device, by its own words and by the cluster's count; nobody else can have one."""
        resource = self.platform.resource
        with contextlib.suppress(NotDone):
            title = f"Its pod holds {resource or 'a device'}: 1", f"서버의 파드가 {resource or '장치'}: 1 점유"
            with story.step(*title) as step:
                if resource is None:
                    raise NotDone("--no-device", "--no-device")
                self._look_at_pod(step, resource)
        if resource is not None:
            reason = f"{self.platform.options.model}: 정상 1대 중 1대 사용"
            titles = "Refused: no device is free, by the API", "거부: 남은 장치 없음 (API)"
            self._refuse_the_pi(story, titles, reason)

    def _look_at_pod(self, step: Step, resource: str) -> None:
        [pod] = [each for each in self._pods() if each["metadata"]["labels"][KIND_LABEL] == RunKind.NOTEBOOK.value]
        metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
        [container] = [each for each in spec["containers"] if each["name"] == CONTAINER]
        step.expect(metadata["labels"][PERSON_LABEL] == MEMBER, f"a pod of {MEMBER}", metadata["labels"])
        step.expect(status["phase"] == "Running", "a pod that runs", status)
        for part in ("limits", "requests"):
            had = container["resources"].get(part, {}).get(resource)
            step.expect(had == "1", f"{part} with {resource}: 1", container["resources"])
        with_it = [each.name for each in self.platform.machines if each.devices]
        step.expect(spec["nodeName"] in with_it, f"one of the machines {with_it}", spec["nodeName"])
        had = ", ".join(f"{name} {amount}" for name, amount in sorted(container["resources"]["limits"].items()))
        step.note(f"{metadata['namespace']}/{metadata['name']} ({spec['nodeName']}): {had}")
        used = self._quota("used", resource)
        step.expect(used == "1", f"a quota of the namespace of which {resource}: 1 is used", used)
        step.note(f"ResourceQuota: requests.{resource} {used}/{self._quota('hard', resource)}")

    def _quota(self, part: str, resource: str) -> str:
        quotas = [each for each in self.platform.of_project(PROJECT, "resourcequotas") if _named(each, QUOTA)]
        return ", ".join(str(each["status"].get(part, {}).get(f"requests.{resource}")) for each in quotas)

    def _pods(self) -> list[dict[str, Any]]:
        return [each for each in self.platform.of_project(PROJECT, "pods") if RUN_LABEL in each["metadata"]["labels"]]

    def watch(self, run: str) -> None:
        """The run's Job and its pod are remembered, as the platform removes them once it has charged them."""
        with contextlib.suppress(Differs):  # it is asked again in a moment
            for job in self.platform.of_project(PROJECT, "jobs"):
                if _named(job, pod_name(run)):
                    self.job = job
                    pods = [each for each in self._pods() if each["metadata"]["labels"][RUN_LABEL] == run]
                    self.job_pods = pods or self.job_pods

    def once_run(self, story: Story, run: str) -> None:
        """The scheduled run was a Job with one pod."""
        with story.step("The scheduled run was a Job", "예약 실행은 Job으로 실행됨") as step:
            job = self.job
            step.expect(job is not None, f"a Job {pod_name(run)} while it ran", "none")
            step.expect(len(self.job_pods) == 1, "one pod of it", len(self.job_pods))
            owners = [(each["kind"], each["name"]) for each in self.job_pods[0]["metadata"]["ownerReferences"]]
            step.expect(owners == [("Job", pod_name(run))], "a pod that the Job owns", owners)
            step.note(f"job/{pod_name(run)}, {NOTEBOOK_IMAGE}, {self.job_pods[0]['spec'].get('nodeName')}")

    def once_stopped(self, story: Story) -> None:
        """Nothing of the runs is on the cluster; what the project has is."""
        title = "Pods and Jobs are gone, the device is free", "파드와 Job 삭제됨, 장치 반납됨"
        if self.platform.resource is None:
            title = "Pods and Jobs are gone", "파드와 Job 삭제됨"
        with story.step(*title) as step:
            deadline = time.monotonic() + GONE_SECONDS
            while left := [*self._pods(), *self.platform.of_project(PROJECT, "jobs")]:
                if time.monotonic() > deadline:
                    raise Differs(f"none within {GONE_SECONDS:.0f} s", [each["metadata"]["name"] for each in left])
                time.sleep(POLL_SECONDS)
            resource = self.platform.resource
            if resource is None:
                return
            while (used := self._quota("used", resource)) != "0":
                if time.monotonic() > deadline:
                    raise Differs(f"none of {resource} used within {GONE_SECONDS:.0f} s", used)
                time.sleep(POLL_SECONDS)
            step.note(f"ResourceQuota: requests.{resource} {used}/{self._quota('hard', resource)}")

    def more_refusals(self, story: Story) -> None:
        """A budget that does not cover the least time of a profile starts nothing."""
        if self.platform.options.model is not None:
            titles = "Refused: a budget that is too short, by the API", "거부: 예산 부족 (API)"
            self._refuse_the_pi(story, titles, f"{SHORT_PROJECT} 과제의 잔여량:")

    def _refuse_the_pi(self, story: Story, titles: tuple[str, str], reason: str) -> None:
        with _logged_in(self.platform, PI) as pi:
            refuse(
                story,
                self.platform,
                titles,
                reason,
                lambda step: by_api(step, pi, PI, SHORT_PROJECT, DEVICE_PROFILE),
                project=SHORT_PROJECT,
            )


def _named(found: dict[str, Any], name: str) -> bool:
    return bool(found["metadata"]["name"] == name)


@contextlib.contextmanager
def _logged_in(platform: ClusterPlatform, person: str) -> Iterator[Browser]:
    browser = Browser(platform.url)
    try:
        browser.log_in(person, platform.password(person))
        yield browser
    finally:
        browser.close()
