"""Use cases: each function is one use case and one transaction."""
