"""The hub with its real proxy, servers and reconciling loop, each a process of its own."""
