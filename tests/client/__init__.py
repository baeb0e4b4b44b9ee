"""What lies in the notebook server itself."""
