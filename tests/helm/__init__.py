"""The chart, from its text to a cluster that runs it."""
