"""What runs on each machine with accelerators: it reads them, and reports to the platform over HTTP.

It knows the platform by address and token alone, and imports nothing of it but the shapes of `quotas.domain`.
"""
