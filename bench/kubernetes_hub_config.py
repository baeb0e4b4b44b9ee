"""The platform's own configuration for a hub outside the cluster, whose servers' pods run nothing.

Each pod is reached as the stand-in at an address of this machine. ``BENCH_HUB`` says where the hub, the proxy's API and
the portal are, where the stand-in is, and where the loop's delays are noted.
"""

from __future__ import annotations

import json
import os

from bench import loop_delay
from quotas.domain.launch import Launch, Seen
from tests.platform import ROOT

load_subconfig(str(ROOT / "tests" / "spawners" / "hub_config.py"))  # noqa: F821 - the hub reads this file with it
c = get_config()  # noqa: F821
told = json.loads(os.environ["BENCH_HUB"])


class Simulated(c.JupyterHub.spawner_class):  # type: ignore[misc,name-defined]
    """A server whose pod is on a simulated machine."""

    async def launch(self, launch: Launch) -> tuple[str, int, Seen]:
        _, _, seen = await super().launch(launch)
        return "127.0.0.1", told["stand_in"], seen


c.JupyterHub.spawner_class = Simulated
c.JupyterHub.hub_bind_url = c.JupyterHub.hub_connect_url = f"http://127.0.0.1:{told['hub']}"
c.JupyterHub.tornado_settings = told["tornado"]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{told['proxy_api']}"
for service in c.JupyterHub.services:
    if service["name"] == "portal":
        service["url"] = f"http://127.0.0.1:{told['portal']}"

loop_delay.watch(told["delays"])
