"""The schema's history: one file in `versions/` for each change, run by :mod:`quotas.store.migrate`."""
