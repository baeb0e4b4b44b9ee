"""Scheduled notebooks: claimed, run by papermill in a process or container of their own, and recorded."""
