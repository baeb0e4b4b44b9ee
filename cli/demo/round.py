"""The main job, step by step: a member works in a notebook and by schedule; both are charged; others are refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cli.demo import kernel
from cli.demo.browser import Browser, Page
from cli.demo.platform import Platform
from cli.demo.story import Differs, Step, Story
from cli.tables import Column, Kind, show
from quotas.domain.units import show_duration

PROJECT, ENDED_PROJECT = "vision-drive", "harbor-watch"
MEMBER, STRANGER = "member", "newcomer"
PROFILE, FORBIDDEN = "cpu-small", "h100-x2"
OFFERED = frozenset({"cpu-small", "cpu-large", "h100-1g", "h100"})
NOTEBOOK = "train_digits.ipynb"
PARAMETERS: Mapping[str, object] = {"test_share": 0.4, "seed": 11}
LEAST_ACCURACY = 0.9
DUE_SECONDS = 4
RUN_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.5
SERVER = f"/user/{MEMBER}/{PROJECT}"
PORTAL = "/services/portal/api"
REFUSALS = {
    "profile": "vision-drive 과제는 h100-x2 프로필을 사용할 수 없습니다",
    "ended": "harbor-watch 과제의 배정은",
    "stranger": "newcomer is not a member of vision-drive",
}
"""What each of them reads, in the language of their pages."""

ACCOUNTS = {
    "granted": "배정",
    "available": "잔여",
    "held": "예약",
    "spent": "사용",
    "expired": "소멸",
    "overrun": "초과",
}
LEDGER = (
    Column("account", "account", "계정"),
    Column("before", "before", "이전", Kind.NUMBER),
    Column("after", "after", "이후", Kind.NUMBER),
    Column("change", "+/-", "+/-"),
)
Balances = dict[str, int]


@dataclass
class Plan:
    """What differs from one backend to another: the profiles, how long a run may take, and what else is looked at.

    On a platform of one machine nothing else is. Each of the methods is called at its point of the round.
    """

    server: str = PROFILE
    batch: str = PROFILE
    offered: frozenset[str] = OFFERED
    run_seconds: float = RUN_SECONDS

    def while_running(self, story: Story) -> None:
        """The member's server is open, with JupyterLab in it."""

    def watch(self, run: str) -> None:
        """The scheduled run is under way; this is called every half second."""

    def once_run(self, story: Story, run: str) -> None:
        """The scheduled run has succeeded; the server still runs."""

    def once_stopped(self, story: Story) -> None:
        """The server has been stopped, and no run of the project is open."""

    def more_refusals(self, story: Story) -> None:
        """The refusals that every backend has were shown."""


def go_round(platform: Platform, story: Story, plan: Plan | None = None) -> None:
    """Every step is done and was as it should be. Raises Differs at the first that was not."""
    plan = plan or Plan()
    member = Browser(platform.url)
    stranger = Browser(platform.url)
    try:
        before = balances(platform)
        charged = set(run_ids(platform))
        form = _log_in(story, platform, member, plan)
        _start(story, member, form, plan)
        plan.while_running(story)
        _work(story, member)
        scheduled = _schedule(story, member, plan)
        plan.once_run(story, scheduled)
        _stop(story, platform, member)
        plan.once_stopped(story)
        _check_charges(story, platform, before, charged, scheduled)
        _refusals(story, platform, member, stranger)
        plan.more_refusals(story)
        after = balances(platform)
    finally:
        member.close()
        stranger.close()
    _tell_ledger(story, platform, before, after)


def _log_in(story: Story, platform: Platform, member: Browser, plan: Plan) -> Page:
    with story.step(f"{MEMBER} logs in by the login form", f"{MEMBER} 로그인 (로그인 양식)") as step:
        page = member.log_in(MEMBER, platform.password(MEMBER))
        step.expect("/hub/login" not in page.url and page.status == 200, "the home page", f"{page.status} {page.url}")
    with story.step("The start form lists the project and its profiles", "시작 양식에 과제와 프로필 표시") as step:
        page = member.open(f"/hub/spawn/{MEMBER}/{PROJECT}")
        offered = page.form(f"/spawn/{MEMBER}/{PROJECT}").choices.get("profile", [])
        step.expect(set(offered) == plan.offered, f"profiles {sorted(plan.offered)} to choose", f"{offered}")
        step.expect(REFUSALS["profile"] in page.text, REFUSALS["profile"], page.text[:2000])
        step.note(f"{PROJECT}: {', '.join(offered)}")
        step.note(f"{FORBIDDEN}: {REFUSALS['profile']}")
    return page


def _start(story: Story, member: Browser, page: Page, plan: Plan) -> None:
    with story.step("The form is posted, and the start followed to its end", "양식 제출 후 시작 과정 확인") as step:
        following = member.submit(page, page.form(f"/spawn/{MEMBER}/{PROJECT}"), profile=plan.server)
        pending = "spawn-pending" in following.url
        came = f"{following.status} {following.url}: {following.text[:500]}"
        step.expect(pending or SERVER in following.url, "the page of a start", came)
        # A server that is ready within a second is shown at once, without the page that waits for it.
        progress = f"/hub/api/users/{MEMBER}/servers/{PROJECT}/progress?_xsrf={member.xsrf('/hub/')}"
        events = list(member.follow(following) if pending else member.stream(progress))
        step.expect(events and events[-1].get("ready"), "a server that is ready", events)
        step.notes += dict.fromkeys(str(each["message"]) for each in events if each.get("message"))
    with story.step("JupyterLab opens", "JupyterLab 열기") as step:
        lab = member.open(f"{SERVER}/lab")
        step.expect(lab.status == 200 and "jupyter-config-data" in lab.html, "JupyterLab", f"{lab.status} {lab.url}")


def _work(story: Story, member: Browser) -> None:
    with story.step(f"Every cell of {NOTEBOOK} runs in a kernel", f"{NOTEBOOK}의 모든 셀 실행 (커널)") as step:
        cells = notebook(member, NOTEBOOK)["cells"]
        code = [_source(cell) for cell in cells if cell["cell_type"] == "code"]
        with kernel.kernel_of(member, SERVER, NOTEBOOK) as running:
            printed = "".join(running.run(each) for each in code)
        step.note(f"{len(code)} cells, accuracy = {accuracy(step, printed)}")


def _schedule(story: Story, member: Browser, plan: Plan) -> str:
    """Return the id of the run."""
    with story.step("A token is made at the hub", "허브에서 토큰 발급"):
        body = {"note": "demo", "expires_in": 3600}
        token = str(member.call("POST", f"/hub/api/users/{MEMBER}/tokens", body)["token"])
    with story.step(f"{NOTEBOOK} is scheduled with other parameters", f"{NOTEBOOK} 예약 (다른 매개변수)") as step:
        at = datetime.fromtimestamp(int(time.time()) + DUE_SECONDS, UTC)
        body = {"notebook": NOTEBOOK, "profile": plan.batch, "at": at.isoformat(), "parameters": dict(PARAMETERS)}
        body |= {"title": "demo", "timeout_seconds": 600}
        schedule = member.call("POST", f"{PORTAL}/projects/{PROJECT}/schedules", body, token=token)
        step.note(f"{schedule['next_at']}, {dict(PARAMETERS)}")
    with story.step("It runs at its time, and succeeds", "예약 시각에 실행되어 성공") as step:
        run = _wait_for_run(member, token, int(schedule["id"]), plan)
        step.expect(run["state"] == "succeeded", "a run that succeeded", run)
        printed = output_text(notebook(member, run["output"]))
        step.note(f"{run['output']}: accuracy = {accuracy(step, printed)}")
    return str(run["id"])


def _wait_for_run(member: Browser, token: str, schedule: int, plan: Plan) -> dict[str, Any]:
    final = {"succeeded", "failed", "timed_out", "kernel_died", "out_of_memory", "cancelled", "lost", "refused"}
    found: dict[str, Any] = {}
    deadline = time.monotonic() + plan.run_seconds
    while time.monotonic() < deadline:
        runs = member.call("GET", f"{PORTAL}/projects/{PROJECT}/runs", token=token)
        mine = [each for each in runs if each.get("schedule_id") == schedule]
        if mine:
            plan.watch(str(mine[0]["id"]))
            found = member.call("GET", f"{PORTAL}/runs/{mine[0]['id']}", token=token)
            if found["state"] in final:
                return found
        time.sleep(POLL_SECONDS)
    raise Differs(f"a run of schedule {schedule} that ends within {plan.run_seconds:.0f} s", found or "none")


def _stop(story: Story, platform: Platform, member: Browser) -> None:
    with story.step("The server is stopped by its button", "중지 단추로 서버 중지") as step:
        home = member.open("/hub/home")
        page = member.submit(home, home.form(f"/stop/{MEMBER}/{PROJECT}"))
        step.expect(page.status == 200, "the home page", f"{page.status} {page.url}")
        deadline = time.monotonic() + STOP_SECONDS
        while _open_runs(platform):
            if time.monotonic() > deadline:
                raise Differs(f"no open run within {STOP_SECONDS:.0f} s", _open_runs(platform))
            time.sleep(POLL_SECONDS)


def _open_runs(platform: Platform) -> list[str]:
    return [row["id"] for row in platform.read("runs", "list", "--project", PROJECT) if row["state"] != "settled"]


def _check_charges(story: Story, platform: Platform, before: Balances, known: set[str], scheduled: str) -> None:
    with story.step("Both runs are charged to the project", "두 실행 모두 과제에 청구됨") as step:
        rows = [row for row in platform.read("runs", "list", "--project", PROJECT) if row["id"] not in known]
        kinds = sorted(row["kind"] for row in rows)
        step.expect(kinds == ["batch", "notebook"], "one server and one batch run", rows)
        step.expect(scheduled in {row["id"] for row in rows}, f"the run {scheduled}", rows)
        charges = [int(row["charge_gflops_seconds"]) for row in rows]
        step.expect(min(charges) > 0, "a charge for each", rows)
        spent = balances(platform)["spent"] - before["spent"]
        step.expect(spent == sum(charges), f"{sum(charges)} GFLOPS·s spent", spent)
        for row, charge in zip(rows, charges, strict=True):
            step.note(f"{row['kind']}: {show_duration(row['seconds'])}, {row['profile']}: {charge:,} GFLOPS·s")


def _sentence(text: str, beginning: str) -> str:
    """Return the sentence of `text` that begins so, as the person reads it."""
    # A point within a number ends no sentence.
    return re.split(r"(?<=\.)\s", text[text.index(beginning) :], maxsplit=1)[0]


def refuse(
    story: Story, platform: Platform, titles: tuple[str, str], reason: str, ask: Callable[[Step], str], *, project: str
) -> None:
    """What `ask` asks for is refused with the reason, and the project is charged nothing for it."""
    before = balances(platform, project)
    with story.step(*titles) as step:
        text = ask(step)
        step.expect(reason in text, reason, text[:1500])
        step.note(_sentence(text, reason))
        after = balances(platform, project)
        step.expect(after == before, f"nothing held or charged: {before}", after)


def _refusals(story: Story, platform: Platform, member: Browser, stranger: Browser) -> None:
    refuse(
        story,
        platform,
        (
            "Refused: a profile that the project may not use, by the form",
            "거부: 과제가 사용할 수 없는 프로필 (양식)",
        ),
        REFUSALS["profile"],
        lambda step: _by_form(step, member, PROJECT, FORBIDDEN),
        project=PROJECT,
    )
    refuse(
        story,
        platform,
        ("Refused: a project whose award has ended, by the API", "거부: 배정이 종료된 과제 (API)"),
        REFUSALS["ended"],
        lambda step: by_api(step, member, MEMBER, ENDED_PROJECT, PROFILE),
        project=PROJECT,
    )
    stranger.log_in(STRANGER, platform.password(STRANGER))
    refuse(
        story,
        platform,
        ("Refused: a person who is not a member, by the API", "거부: 구성원이 아닌 사용자 (API)"),
        REFUSALS["stranger"],
        lambda step: by_api(step, stranger, STRANGER, PROJECT, PROFILE),
        project=PROJECT,
    )


def _by_form(step: Step, browser: Browser, project: str, profile: str) -> str:
    """Post the form with a profile that it does not offer, as a forged one would; return the page's text."""
    page = browser.open(f"/hub/spawn/{MEMBER}/{project}")
    answer = browser.submit(page, page.form(f"/spawn/{MEMBER}/{project}"), profile=profile)
    if "spawn-pending" in answer.url:
        events = list(browser.follow(answer))
        step.expect(not events[-1].get("ready"), "a start that is refused", events)
        return " ".join(str(each.get("message", "")) for each in events)
    step.expect(400 <= answer.status < 500, "a refusal", f"{answer.status} {answer.url}")
    return answer.text


def by_api(step: Step, browser: Browser, person: str, project: str, profile: str) -> str:
    """Return what the hub's API answers to a start that it has to refuse."""
    answer = browser.answer("POST", f"/hub/api/users/{person}/servers/{project}", {"profile": profile})
    step.expect(400 <= answer.status_code < 500, "a refusal", f"{answer.status_code}: {answer.text[:500]}")
    return str(answer.json().get("message", ""))


def _tell_ledger(story: Story, platform: Platform, before: Balances, after: Balances) -> None:
    with story.step("Every invariant of the ledger holds", "원장의 모든 불변식 성립") as step:
        code, output = platform.command("check")
        step.expect(code == 0, "mudeung check to pass", f"exit {code}: {output}")
        step.note(f"mudeung check: {output}")
    story.session.say(f"\nThe ledger of {PROJECT}, in GFLOPS·s:", f"\n{PROJECT}의 원장 (GFLOPS·s):")
    rows = [
        {
            "account": story.session.text(name, korean),
            "before": before[name],
            "after": after[name],
            "change": f"{after[name] - before[name]:+,}",
        }
        for name, korean in ACCOUNTS.items()
    ]
    show(story.session, LEDGER, rows)


def balances(platform: Platform, project: str = PROJECT) -> Balances:
    """Return what the project's accounts come to, in GFLOPS·s by name."""
    [row] = platform.read("ledger", "--balances", "--project", project)
    return {key.removesuffix("_gflops_seconds"): int(value) for key, value in row.items() if key != "project"}


def run_ids(platform: Platform) -> list[str]:
    return [row["id"] for row in platform.read("runs", "list", "--project", PROJECT)]


def notebook(browser: Browser, path: str) -> dict[str, Any]:
    """Return the notebook as the server gives it."""
    found: dict[str, Any] = browser.call("GET", f"{SERVER}/api/contents/{path}?type=notebook&content=1")["content"]
    return found


def accuracy(step: Step, printed: str) -> str:
    """Return the accuracy that was printed. Raises Differs when there is none, or it is too low."""
    found = re.search(r"accuracy = (0\.\d+|1\.0+)", printed)
    step.expect(found, "a line with the accuracy", printed[-500:])
    value = found[1] if found else "0"
    step.expect(float(value) > LEAST_ACCURACY, f"an accuracy above {LEAST_ACCURACY}", value)
    return value


def _source(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def output_text(document: Mapping[str, Any]) -> str:
    outputs = [output for cell in document["cells"] for output in cell.get("outputs", [])]
    texts = [output["text"] for output in outputs if output["output_type"] == "stream"]
    return "".join(text if isinstance(text, str) else "".join(text) for text in texts)
