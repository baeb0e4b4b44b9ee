"""A plain JupyterHub, as its documentation sets it up: what ours is measured against.

``BENCH_PLAIN`` says what differs: ``port``, ``hub_port`` and ``proxy_port``; ``token`` and ``proxy_token``; ``home``, a
folder; for processes the server's ``command``; for containers ``image``, ``network`` and its ``gateway``; for pods
``pod``, settings of KubeSpawner. A ``timeout`` replaces both time limits of a start, ``tornado`` says how long the hub
waits before it answers, and the loop's delays are noted in the file ``delays``.
"""

import json
import os

c = get_config()  # noqa: F821 - the hub reads this file with it
plain = json.loads(os.environ["BENCH_PLAIN"])
host = plain.get("gateway", "127.0.0.1")

c.JupyterHub.bind_url = f"http://127.0.0.1:{plain['port']}"
c.JupyterHub.hub_bind_url = c.JupyterHub.hub_connect_url = f"http://{host}:{plain['hub_port']}"
c.JupyterHub.db_url = f"sqlite:///{plain['home']}/plain.sqlite"
c.JupyterHub.cookie_secret_file = f"{plain['home']}/cookie_secret"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{plain['proxy_port']}"
c.ConfigurableHTTPProxy.auth_token = plain["proxy_token"]
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.services = [{"name": "tests", "api_token": plain["token"]}]
c.JupyterHub.load_roles = [
    {"name": "tests", "scopes": ["admin:users", "admin:servers", "tokens"], "services": ["tests"]}
]

if plain.get("image"):
    c.JupyterHub.spawner_class = "docker"
    c.DockerSpawner.image = plain["image"]
    c.DockerSpawner.pull_policy = "never"
    c.DockerSpawner.network_name = plain["network"]
    c.DockerSpawner.remove = True
elif plain.get("pod"):
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.JupyterHub.concurrent_spawn_limit = 1000
    c.KubeSpawner.update(plain["pod"])
else:
    c.JupyterHub.spawner_class = "simple"
    c.SimpleLocalProcessSpawner.home_dir_template = f"{plain['home']}/people/{{username}}"
    c.Spawner.cmd = plain["command"]
if plain.get("timeout"):
    c.Spawner.start_timeout = c.Spawner.http_timeout = plain["timeout"]
if plain.get("tornado"):
    c.JupyterHub.tornado_settings = plain["tornado"]
if plain.get("delays"):
    from bench import loop_delay

    loop_delay.watch(plain["delays"])
