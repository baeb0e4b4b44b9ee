"""Pure rules: frozen dataclasses and functions; no I/O and no clock of its own (`now` is a parameter)."""
