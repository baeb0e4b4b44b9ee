#!/opt/mudeung/bin/python -s
"""Starts the single-user server; installed as `jupyterhub-singleuser`.

Most of the time from a container's start to the server's first answer goes into imports, so two things are done here.
The garbage collector rests while they run and leaves what they made alone afterwards. And the hub's database layer
(SQLAlchemy's models, Alembic), which the hub's request log draws into every server although a server has no database,
is put off to a first use that does not come: 20 MB less for each server.

`-s` keeps a person's own packages in ~/.local out of the server, so that none of them can stop it from starting;
kernels and terminals see them.
"""

import gc

from mudeung_late import put_off


class HealthCheckHandler:
    """The hub's handler of that name, of which no instance lives in a server; its request log compares with it."""


def main() -> None:
    """The server has run until it was stopped."""
    gc.disable()
    put_off("jupyterhub.handlers.pages", HealthCheckHandler=HealthCheckHandler)
    put_off("jupyterhub.orm")
    put_off("jupyterhub.roles")
    from jupyterhub.singleuser import main as serve  # noqa: PLC0415 - after what is put off

    gc.freeze()
    gc.enable()
    serve()


if __name__ == "__main__":
    main()
