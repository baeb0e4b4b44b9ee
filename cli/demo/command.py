"""`mudeung demo`: the command itself, which ends everything however the round went."""

from __future__ import annotations

from typing import Annotated

import httpx
import typer

from cli.demo.platform import OwnPlatform
from cli.demo.round import go_round
from cli.demo.story import Differs, Story
from cli.session import FAILED, Session, command
from cli.up import Backend


def register(app: typer.Typer) -> None:
    command(app, "demo", example="mudeung demo --backend docker")(demo)


def demo(
    session: Session,
    backend: Annotated[Backend, typer.Option(help="Where servers run.")] = Backend.LOCAL,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary home.")] = False,
) -> None:
    """Do the main job from outside, on a platform of its own, and check every step; exit 1 where one differs."""
    platform = OwnPlatform(backend.value, session.language)
    story = Story(session)
    try:
        _whole(story, platform, backend)
    except (Differs, httpx.HTTPError, OSError, LookupError, ValueError) as error:
        session.say("\nThe demonstration failed. Ends of the logs:", "\n시연이 실패했습니다. 로그의 끝:")
        print(platform.logs(), flush=True)
        raise typer.Exit(FAILED) from error
    finally:
        platform.remove(keep=keep)
        if keep:
            session.say(f"Its home was kept: {platform.home}", f"홈 폴더를 남겼습니다: {platform.home}")
    seconds, steps = story.seconds(), story.done
    session.say(
        f"\nAll {steps} steps as they should be, in {seconds:.0f} s.", f"\n{steps}단계 모두 성공 ({seconds:.0f}초)."
    )


def _whole(story: Story, platform: OwnPlatform, backend: Backend) -> None:
    with story.step(f"The platform starts ({backend})", f"플랫폼 시작 ({backend})") as step:
        platform.start()
        step.note(platform.url)
    go_round(platform, story)
    with story.step("Ctrl-C ends all of it; nothing is left running", "Ctrl-C로 모두 종료, 남은 프로세스 없음") as step:
        code = platform.stop()
        step.expect(code == 0, "exit 0", f"exit {code}: {platform.printed()}")
        step.expect(not platform.left(), "no process left", platform.left())
