"""A notebook server's own time: what is left of it, what limits it, and how it is extended.

Without the environment variables of a Mudeung platform the server extension does nothing. Little is imported here, as
every server loads it when it starts.
"""

from typing import Any

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mudeung_session"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """The server answers below ``mudeung/session``, if it is one of a platform's."""
    from mudeung_session import extension  # noqa: PLC0415 - the command needs none of it

    extension.load(serverapp)


async def _start_jupyter_server_extension(serverapp: Any) -> None:
    """The server tells the platform what its kernels do, from now on."""
    from mudeung_session import extension  # noqa: PLC0415 - as above

    extension.start(serverapp)
