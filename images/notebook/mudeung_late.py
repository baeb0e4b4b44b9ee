"""Modules that are slow to import and seldom used are imported at their first use, not when a program starts.

`mudeung_late.pth` imports this file into every Python of the image, so it must itself cost next to nothing. The grammar
of internationalised addresses (`rfc3987_syntax`) takes half a second to build, and whatever validates JSON (the server,
papermill) imports it for the sake of one rare format.
"""

import sys


class Late(type(sys)):
    """Stands in for the module of its name: its own names are there at once, any other imports the real module."""

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):  # asked by the import system and by inspection: no use of the module yet
            raise AttributeError(attribute)
        return getattr(real(self.__name__), attribute)


def put_off(name: str, **own_names: object) -> None:
    """The module `name` is importable and has `own_names`; the real one is imported when another name is used."""
    late = Late(name)
    vars(late).update(own_names)
    sys.modules[name] = late


def real(name: str) -> object:
    """The real module `name`, imported now if it was put off until now."""
    if isinstance(sys.modules.get(name), Late):
        del sys.modules[name]
    __import__(name)
    return sys.modules[name]


def is_valid_syntax(term: str, value: str) -> bool:
    """What the real `rfc3987_syntax.is_valid_syntax` says of the address."""
    return real("rfc3987_syntax").is_valid_syntax(term, value)


put_off("rfc3987_syntax", is_valid_syntax=is_valid_syntax)
