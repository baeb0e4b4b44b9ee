"""A person's servers on the profile: started by the form, worked in by a kernel, stopped by the button; and refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cli.demo import kernel
from cli.demo.browser import Browser
from cli.demo.kernel import Kernel
from cli.demo.platform import OwnPlatform
from cli.demo.story import Differs, Step
from cli.gpu_check import centre
from cli.gpu_check.centre import PROFILE, PROJECT

SETTLE_SECONDS = 90.0
POLL_SECONDS = 1.0


@dataclass
class Person:
    """Someone who is logged in."""

    platform: OwnPlatform
    name: str
    browser: Browser

    @property
    def server(self) -> str:
        return f"/user/{self.name}/{PROJECT}"

    def start(self, step: Step) -> dict[str, Any]:
        """Their server is ready; return its run."""
        page = self.browser.open(f"/hub/spawn/{self.name}/{PROJECT}")
        form = page.form(f"/spawn/{self.name}/{PROJECT}")
        offered = form.choices.get("profile", [])
        step.expect(
            PROFILE in offered or form.fields.get("profile") == PROFILE, f"{PROFILE} to choose", page.text[:1500]
        )
        following = self.browser.submit(page, form, profile=PROFILE)
        pending = "spawn-pending" in following.url
        came = f"{following.status} {following.url}: {following.text[:500]}"
        step.expect(pending or self.server in following.url, "the page of a start", came)
        progress = f"/hub/api/users/{self.name}/servers/{PROJECT}/progress?_xsrf={self.browser.xsrf('/hub/')}"
        events = list(self.browser.follow(following) if pending else self.browser.stream(progress))
        step.expect(events and events[-1].get("ready"), "a server that is ready", events)
        lab = self.browser.open(f"{self.server}/lab")
        step.expect(lab.status == 200 and "jupyter-config-data" in lab.html, "JupyterLab", f"{lab.status} {lab.url}")
        return self.open_run()

    def open_run(self) -> dict[str, Any]:
        """Return their run that has not been settled. Raises Differs where there is not just one."""
        rows = centre.runs(self.platform)
        found = [row for row in rows if row["person"] == self.name and row["state"] != "settled"]
        if len(found) != 1:
            raise Differs(f"one open run of {self.name}", rows)
        return found[0]

    def refused(self, step: Step) -> str:
        """Return why their start is refused, asked for by the API."""
        path = f"/hub/api/users/{self.name}/servers/{PROJECT}"
        answer = self.browser.answer("POST", path, {"profile": PROFILE})
        step.expect(400 <= answer.status_code < 500, "a refusal", f"{answer.status_code}: {answer.text[:500]}")
        return str(answer.json().get("message", ""))

    @contextmanager
    def open_kernel(self, notebook: str, content: dict[str, Any]) -> Iterator[Kernel]:
        """A kernel of the notebook, which is saved first, on their server."""
        self.save(notebook, content)
        with kernel.kernel_of(self.browser, self.server, notebook) as running:
            yield running

    def save(self, notebook: str, content: dict[str, Any]) -> None:
        """The notebook is among the project's files."""
        body = {"type": "notebook", "format": "json", "content": content}
        self.browser.call("PUT", f"{self.server}/api/contents/{notebook}", body)

    def token(self) -> str:
        body = {"note": "gpu-check", "expires_in": 3600}
        return str(self.browser.call("POST", f"/hub/api/users/{self.name}/tokens", body)["token"])

    def stop(self, step: Step, run: str) -> dict[str, Any]:
        """Their server is stopped by its button, and charged; return its run."""
        home = self.browser.open("/hub/home")
        page = self.browser.submit(home, home.form(f"/stop/{self.name}/{PROJECT}"))
        step.expect(page.status == 200, "the home page", f"{page.status} {page.url}")
        return settled(self.platform, run)


def settled(platform: OwnPlatform, run: str, seconds: float = SETTLE_SECONDS) -> dict[str, Any]:
    """Return the run once it is charged. Raises Differs where it takes longer."""
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = platform.read("runs", "show", run)
        if found["state"] == "settled":
            return found
        if time.monotonic() > deadline:
            raise Differs(f"run {run} to be settled within {seconds:.0f} s", found)
        time.sleep(POLL_SECONDS)


@contextmanager
def people(platform: OwnPlatform) -> Iterator[list[Person]]:
    """Each person of the project is logged in."""
    logged_in: list[Person] = []
    try:
        for name in centre.people(platform):
            person = Person(platform, name, Browser(platform.url))
            logged_in.append(person)
            page = person.browser.log_in(name, platform.password(name))
            if "/hub/login" in page.url or page.status != 200:
                raise Differs(f"{name} to be logged in", f"{page.status} {page.url}: {page.text[:300]}")
        yield logged_in
    finally:
        for person in logged_in:
            person.browser.close()
