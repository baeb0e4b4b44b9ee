"""JupyterHub's door: spawners behind the gate, the hub's pages and logins, and the reconciling loop beside it."""
