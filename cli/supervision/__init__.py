"""The platform's processes: which there are, how they are watched, and how all of them end."""
