"""The tests' hub, which asks the identity provider often."""

from __future__ import annotations

import os

load_subconfig(os.environ["MUDEUNG_TEST_HUB_CONFIG"])  # noqa: F821 - the hub reads this file with it
c = get_config()  # noqa: F821

c.ProviderLogin.auth_refresh_age = 1
c.ProviderLogin.trusted_seconds = 1
c.ProviderLogin.silent_seconds = 1
