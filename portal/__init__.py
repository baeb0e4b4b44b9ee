"""Door 3: pages and API for people, beside the hub."""
