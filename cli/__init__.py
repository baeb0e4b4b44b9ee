"""The command `mudeung`: a thin door of its own for those who run the platform."""
