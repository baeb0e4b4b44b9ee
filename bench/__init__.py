"""Measured comparisons: each module measures one figure against a plain alternative on the same machine."""
