"""The platform's own configuration for a hub beside the cluster, which its pods reach at an address of this machine."""

from __future__ import annotations

import json
import os

load_subconfig(os.environ["MUDEUNG_TEST_PLATFORM_CONFIG"])  # noqa: F821 - the hub reads this file with it
c = get_config()  # noqa: F821

c.JupyterHub.hub_connect_url = f"http://{os.environ['MUDEUNG_TEST_ADDRESS']}:8081"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8001"
c.KubeSpawner.environment = {"FROM_THE_OPERATOR": json.dumps({"with": "{braces}"})}
