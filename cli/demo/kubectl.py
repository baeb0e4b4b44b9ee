"""helm and kubectl on the cluster that they know: each call ends in time, and says what it was when it fails."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from typing import Any

from cli.demo.story import Differs
from cli.session import Problem

CALL_SECONDS = 60.0
REACH_SECONDS = 10
TOLD = 2_000


class Tools:
    """The two programs, with the context that is in use."""

    def run(
        self, *words: str, given: str | None = None, seconds: float = CALL_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Return what the command came to, whatever it is. Raises Differs when it does not end in so many seconds."""
        try:
            return subprocess.run(
                words,
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                start_new_session=True,  # Ctrl-C is for this program, which removes what it made
            )
        except subprocess.TimeoutExpired:
            raise Differs(f"{shlex.join(words)[:TOLD]} to end within {seconds:.0f} s", "it did not") from None

    def kubectl(self, *words: str, given: str | None = None, seconds: float = CALL_SECONDS) -> str:
        """Return what kubectl printed. Raises Differs when it fails."""
        done = self.run("kubectl", *words, given=given, seconds=seconds)
        if done.returncode != 0:
            raise Differs(f"kubectl {shlex.join(words)[:TOLD]} to succeed", done.stderr.strip()[-TOLD:])
        return done.stdout

    def get(self, *words: str) -> Any:
        """Return objects as the API server has them. Raises Differs when it fails."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def items(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of a list. Raises Differs when it fails."""
        found: list[dict[str, Any]] = self.get(*words)["items"]
        return found

    def require(self) -> str:
        """Return the context in use: helm and kubectl are there, and a cluster answers. Raises Problem."""
        for name in ("helm", "kubectl"):
            if shutil.which(name) is None:
                raise Problem(
                    f"{name}: it is not installed, or not on the PATH; the demonstration on a cluster needs it",
                    f"{name}: 설치되어 있지 않거나 PATH에 없습니다. 클러스터 시연에 필요합니다",
                )
        done = self.run(
            "kubectl", "get", "--raw", "/version", f"--request-timeout={REACH_SECONDS}s", seconds=2 * REACH_SECONDS
        )
        if done.returncode != 0:
            why = done.stderr.strip()[-500:]
            raise Problem(
                f"cluster: kubectl reaches none; set KUBECONFIG, or its context: {why}",
                f"cluster: kubectl로 연결되는 클러스터가 없습니다. KUBECONFIG 또는 컨텍스트를 설정하세요: {why}",
            )
        return self.run("kubectl", "config", "current-context").stdout.strip() or "in-cluster"
