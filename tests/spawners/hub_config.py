"""The platform's own configuration, with what a test needs beside it: a service with all rights, and a light server.

``MUDEUNG_TEST_SERVER`` is the command of the servers, as words in JSON; without it they are the real ones.
``MUDEUNG_TEST_KILL`` names a moment at which the hub kills itself: see `tests.spawners.killed`.
"""

from __future__ import annotations

import json
import os

from tests.spawners.killed import killed_at

load_subconfig(os.environ["MUDEUNG_TEST_CONFIG"])  # noqa: F821 - the hub reads this file with it
c = get_config()  # noqa: F821

if not os.environ.get("MUDEUNG_TEST_PORTAL"):  # the hub would wait for it
    c.JupyterHub.services = [each for each in c.JupyterHub.services if each["name"] != "portal"]
    c.JupyterHub.extra_user_scopes = set()
c.JupyterHub.services.append({"name": "tests", "api_token": os.environ["MUDEUNG_TEST_TOKEN"], "display": False})
c.JupyterHub.load_roles.append(
    {"name": "tests", "scopes": ["admin:users", "admin:servers", "tokens"], "services": ["tests"]}
)
if os.environ.get("MUDEUNG_TEST_SERVER"):
    c.Spawner.cmd = json.loads(os.environ["MUDEUNG_TEST_SERVER"])
    c.Spawner.args = []
if os.environ.get("MUDEUNG_TEST_KILL"):
    c.JupyterHub.spawner_class = killed_at(os.environ["MUDEUNG_TEST_KILL"], c.JupyterHub.spawner_class)
c.Spawner.poll_interval = int(os.environ.get("MUDEUNG_TEST_POLL_SECONDS", "30"))
