"""The hub's wiring: which classes it uses and where its parts lie. What they do is in `spawners/`."""

from __future__ import annotations

from quotas.home import from_environment
from spawners.door import open_door
from spawners.hub_database import hub_database
from spawners.language import TEMPLATES
from spawners.login import LedgerAuthenticator
from spawners.pages import template_vars
from spawners.provider_login import ProviderLogin
from spawners.routes import Proxy
from spawners.servers import hub_bind_url, hub_url, server_class

c = get_config()  # noqa: F821 - the hub reads this file with it

home = from_environment()  # settings are read and checked here
settings = home.settings
database = home.database()
door = open_door(home, database)
address = hub_url(home)
host = f"[{settings.host}]" if ":" in settings.host else settings.host

# The hub, and what it keeps. Servers go on while it is away, and it finds them again.
c.JupyterHub.bind_url = f"http://{host}:{settings.port}"
c.JupyterHub.hub_bind_url = hub_bind_url(home)
c.JupyterHub.hub_connect_url = address
c.JupyterHub.db_url = hub_database(home)
c.JupyterHub.upgrade_db = True
if home.in_cluster:
    c.JupyterHub.cookie_secret = bytes.fromhex(home.secret("cookie_secret"))
else:
    c.JupyterHub.cookie_secret_file = str(home.hub / "cookie_secret")
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.authenticate_prometheus = True
c.JupyterHub.token_expires_in_max_seconds = 90 * 24 * 3600
c.JupyterHub.template_paths = [str(TEMPLATES)]
c.JupyterHub.template_vars = template_vars(lambda: database, settings)

# The proxy is a process of its own, so that servers are reached while the hub is away.
c.JupyterHub.proxy_class = Proxy
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = home.proxy_api_url()
c.ConfigurableHTTPProxy.auth_token = home.secret("proxy_token")

# Servers: one for each person and project, named as the project. Every start passes the gate; starts are paced there,
# so that the hub itself may have many pending.
c.JupyterHub.spawner_class = server_class(door)
c.JupyterHub.allow_named_servers = True
c.JupyterHub.redirect_to_server = False  # a login leads to the home page
c.JupyterHub.named_server_limit_per_user = 200
c.JupyterHub.concurrent_spawn_limit = 1000
c.Spawner.consecutive_failure_limit = 0
# The gate ends a start that takes too long, and says why, before the hub does. A server that the hub finds again after
# a restart has this long to answer, as a machine may be busy then.
c.Spawner.start_timeout = settings.start_timeout_seconds + 60
c.Spawner.http_timeout = 120
c.JupyterHub.init_spawners_timeout = 10

# Who is in the ledger may log in: with a password of an evaluation, or at the identity provider.
c.JupyterHub.public_url = settings.public_url
c.LedgerAuthenticator.database = c.ProviderLogin.database = lambda: database
c.LedgerAuthenticator.default_language = c.ProviderLogin.default_language = settings.language
c.LedgerAuthenticator.passwords = settings.passwords()
c.JupyterHub.authenticator_class = LedgerAuthenticator
if settings.login == "oidc":
    c.JupyterHub.authenticator_class = ProviderLogin
    c.ProviderLogin.issuer = settings.oidc_issuer
    c.ProviderLogin.client_id = settings.oidc_client_id
    c.ProviderLogin.client_secret = home.entrusted("oidc_client_secret")
    c.ProviderLogin.scope = list(settings.oidc_scopes)
    c.ProviderLogin.username_claim = settings.oidc_username_claim
    c.ProviderLogin.admit_unknown = settings.oidc_admit_unknown
    c.ProviderLogin.end_session = settings.oidc_end_session
    c.ProviderLogin.ca = settings.oidc_ca
    c.ProviderLogin.public_address = settings.public_url
    c.CryptKeeper.keys = [bytes.fromhex(home.secret("auth_state_key"))]

# What else asks the hub. The reconciling loop knows the servers by the runs in their state, has ended ones cleared, and
# starts those of people whose turn in the queue has come. The idle culler sees which servers there are, and when each
# was last seen active, and stops those that the ledger calls idle.
c.JupyterHub.services = [
    {"name": "reconciler", "api_token": home.secret("reconciler_token"), "display": False},
    {"name": "idleness", "api_token": home.secret("idleness_token"), "display": False},
    {
        "name": "portal",
        "url": home.portal_url(),
        "api_token": home.secret("portal_token"),
        "timeout": 1,  # the hub does not wait for it: it may come later, or be started anew
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": ["access:services!service=portal", "read:users:name!user"],
    },
]
c.JupyterHub.load_roles = [
    {
        "name": "reconciler",
        "scopes": ["list:users", "read:servers", "admin:server_state", "start:servers", "delete:servers"],
        "services": ["reconciler"],
    },
    {"name": "idleness", "scopes": ["list:users", "read:servers", "delete:servers"], "services": ["idleness"]},
]
c.JupyterHub.extra_user_scopes = {"access:services!service=portal"}
