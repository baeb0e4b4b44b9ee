"""`mudeung demo`: the command itself, which ends everything however the round went."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import httpx
import typer
from websockets.exceptions import WebSocketException

from cli.demo.cluster import RELEASE, ClusterPlatform, Options
from cli.demo.cluster_round import ClusterPlan, set_up
from cli.demo.kubectl import Tools
from cli.demo.platform import OwnPlatform
from cli.demo.removal import namespaces_of, remove, require_own
from cli.demo.round import go_round
from cli.demo.story import DONE, Differs, Story
from cli.session import FAILED, USAGE, Problem, Session, command

EXPECTED = (
    Differs,
    httpx.HTTPError,
    WebSocketException,
    subprocess.SubprocessError,
    OSError,
    LookupError,
    ValueError,
)
"""What a step may end with that differs from what should be."""
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Where(StrEnum):
    """Where the platform is shown."""

    LOCAL = "local"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"


NamespaceOption = Annotated[
    str | None, typer.Option(help="On Kubernetes: the namespace to make.", show_default="mudeung-demo", metavar="NAME")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="On Kubernetes: a value of the chart.", metavar="NAME=VALUE")
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="On Kubernetes: device model that the server has one of.", show_default="h100", metavar="CODE"),
]


def register(app: typer.Typer) -> None:
    command(app, "demo", example="mudeung demo --backend docker")(demo)


def demo(  # noqa: PLR0913, PLR0917 - they are its options
    session: Session,
    backend: Annotated[Where, typer.Option(help="Where servers run.")] = Where.LOCAL,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary home, or the release.")] = False,
    namespace: NamespaceOption = None,
    values: SetOption = None,
    model: ModelOption = None,
    no_device: Annotated[bool, typer.Option("--no-device", help="On Kubernetes: a server without a device.")] = False,
    remove_it: Annotated[
        bool, typer.Option("--remove", help="On Kubernetes: only remove what was kept or left.")
    ] = False,
) -> None:
    """Do the main job from outside, on a platform of its own, and check every step; exit 1 where one differs."""
    given = {"--namespace": namespace, "--set": values, "--model": model, "--no-device": no_device}
    given["--remove"] = remove_it
    if backend is not Where.KUBERNETES:
        for name in (name for name, value in given.items() if value):
            raise Problem(f"{name} needs --backend kubernetes", f"{name}: --backend kubernetes가 필요합니다", USAGE)
        _on_this_machine(session, backend, keep=keep)
        return
    if model is not None and no_device:
        raise Problem("--model or --no-device, not both", "--model과 --no-device 중 하나만 지정하세요", USAGE)
    options = Options(namespace or "mudeung-demo", tuple(values or ()), None if no_device else model or "h100")
    with _ending():
        if remove_it:
            _only_remove(session, options.namespace)
        else:
            _on_a_cluster(session, ClusterPlatform(session, options), keep=keep)


def _on_this_machine(session: Session, backend: Where, *, keep: bool) -> None:
    platform = OwnPlatform(backend.value, session.language)
    story = Story(session)
    try:
        _whole(story, platform, backend)
    except EXPECTED as error:
        _fail(session, platform.logs())
        raise typer.Exit(FAILED) from error
    finally:
        platform.remove(keep=keep)
        if keep:
            session.say(f"Its home was kept: {platform.home}", f"홈 폴더를 남겼습니다: {platform.home}")
    _tell_end(story)


def _whole(story: Story, platform: OwnPlatform, backend: Where) -> None:
    with story.step(f"The platform starts ({backend})", f"플랫폼 시작 ({backend})") as step:
        platform.start()
        step.note(platform.url)
    go_round(platform, story)
    with story.step("Ctrl-C ends all of it; nothing is left running", "Ctrl-C로 모두 종료, 남은 프로세스 없음") as step:
        code = platform.stop()
        step.expect(code == 0, "exit 0", f"exit {code}: {platform.printed()}")
        step.expect(not platform.left(), "no process left", platform.left())


def _fail(session: Session, logs: str) -> None:
    session.say("\nThe demonstration failed. Ends of the logs:", "\n시연이 실패했습니다. 로그의 끝:")
    print(logs, flush=True)


def _tell_end(story: Story) -> None:
    seconds, steps = story.seconds(), sum(each.mark == DONE for each in story.told)
    left_out = len(story.told) - steps
    story.session.say(
        f"\nAll {steps} steps as they should be, in {seconds:.0f} s{f', {left_out} left out' if left_out else ''}.",
        f"\n{steps}단계 모두 성공 ({seconds:.0f}초){f', {left_out}단계 생략' if left_out else ''}.",
    )


def _on_a_cluster(session: Session, platform: ClusterPlatform, *, keep: bool) -> None:
    platform.look()
    story = Story(session)
    try:
        session.say(
            f"Context {platform.context}, namespace {platform.options.namespace}: looking for images …",
            f"컨텍스트 {platform.context}, 네임스페이스 {platform.options.namespace}: 이미지 확인 중 …",
        )
        platform.occupy()
        _installed(story, platform)
        if not keep:
            _removed(story, platform)
    except EXPECTED as error:
        try:
            logs = platform.logs()
        except Differs as differs:
            logs = differs.came
        _fail(session, logs)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        session.say("\nInterrupted.", "\n중단되었습니다.")
        raise typer.Exit(INTERRUPTED) from error
    finally:
        _clear(session, platform, keep=keep)
    _tell_end(story)


def _installed(story: Story, platform: ClusterPlatform) -> None:
    where = f"{platform.context}: {', '.join(each.name for each in platform.machines)}"
    with story.step("helm installs the platform, from nothing", "helm으로 플랫폼 설치") as step:
        step.note(platform.install())
        devices = f"{platform.resource}: {platform.devices}; " if platform.resource else ""
        step.note(f"{where}; {devices}{platform.url}")
    set_up(platform, story)
    go_round(platform, story, ClusterPlan(platform=platform))


def _removed(story: Story, platform: ClusterPlatform) -> None:
    with story.step(
        "All of it is removed; nothing is left on the cluster", "모두 삭제, 클러스터에 남은 것 없음"
    ) as step:
        for volume in platform.remove():
            step.note(
                story.session.text(
                    f"kept by its storage class: volume {volume}", f"스토리지 클래스가 보존한 볼륨: {volume}"
                )
            )


def _clear(session: Session, platform: ClusterPlatform, *, keep: bool) -> None:
    """What was made is removed, or kept and told where it is; a second Ctrl-C does not cut this short."""
    namespace = platform.options.namespace
    remove_it = f"mudeung demo --backend kubernetes --namespace {namespace} --remove"
    if keep and platform.made:
        platform.end()
        session.say(
            f"The release was kept. kubectl --namespace {namespace} port-forward service/proxy-public 8000:80 leads to"
            f" it, {remove_it} removes it.",
            f"설치를 남겼습니다. 접속: kubectl --namespace {namespace} port-forward service/proxy-public 8000:80."
            f" 삭제: {remove_it}",
        )
        return
    with _undisturbed():
        if platform.made:
            session.say("Removing what was made …", "만든 것을 지우는 중 …")
        try:
            platform.remove()
        except Differs as differs:
            raise Problem(
                f"not all could be removed: {differs.came}; {remove_it} tries again",
                f"일부를 지우지 못했습니다: {differs.came}. 다시 시도: {remove_it}",
            ) from differs


def _only_remove(session: Session, namespace: str) -> None:
    tools = Tools()
    tools.require()
    try:
        require_own(tools, namespace)
        names = namespaces_of(tools, namespace)
        kept = remove(tools, namespace, RELEASE, session.say)
    except Differs as differs:
        raise Problem(f"cluster: {differs}", f"cluster: {differs}") from differs
    for volume in kept:
        session.say(f"Kept by its storage class: volume {volume}", f"스토리지 클래스가 보존한 볼륨: {volume}")
    session.say(f"Removed: {', '.join(names) or 'nothing was there'}.", f"삭제함: {', '.join(names) or '없음'}.")


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """SIGTERM and a closed terminal end the command as Ctrl-C does."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal are not heard as long as the block lasts."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
