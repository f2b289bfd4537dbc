"""The reference: a page for each room of the package, from its docstrings.

Griffe reads the sources. Nothing is imported, so the site needs no torch.
"""

import re
import textwrap
from pathlib import Path
from typing import Any

ROOMS = ("data", "models", "predict", "training", "experiment", "figures", "lessons", "setup")
"""The packages whose exported names are described, in the order in which rows go through them."""
WIDTH = 88
"""Most characters in a line of a signature."""


def pages(root: Path) -> dict[str, str]:
    """Return each room's page in Markdown, by the page's name."""
    import griffe

    package = griffe.load("llmcourse", search_paths=[root], allow_inspection=False)
    return {f"api-{room}": _room(package[room]) for room in ROOMS}


def _room(room: Any) -> str:
    names = [str(name) for name in room.exports or ()]
    parts = [f"# llmcourse.{room.name}", _docstring(room)]
    return "\n\n".join([*parts, *(_described(room[name], name) for name in names)]) + "\n"


def _described(thing: Any, name: str, level: int = 2) -> str:
    """Return heading, signature and docstring of a name, and then of the public members of a class or a module."""
    thing = thing.final_target if thing.is_alias else thing
    parts = [f"{'#' * level} {name}"]
    signature = thing.signature(name=name) if thing.is_function or thing.is_class else ""
    if signature:  # a class that pydantic makes has none
        signature = textwrap.fill(signature, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        parts.append(f"```python\n{signature}\n```")
    parts.append(_docstring(thing))
    if level == 2 and (thing.is_class or thing.is_module):
        members = [(key, one) for key, one in thing.members.items() if one.is_public and not one.is_alias]
        members = [(key, one) for key, one in members if one.docstring]
        fields = [f"- `{key}`: {' '.join(_docstring(one).split())}" for key, one in members if one.is_attribute]
        parts.append("\n".join(fields))
        parts += [_described(one, f"{name}.{key}", 3) for key, one in members if not one.is_attribute]
    return "\n\n".join(filter(None, parts))


def _docstring(thing: Any) -> str:
    """Return a docstring as Markdown, in which only code is special: `<` starts no HTML and `$` no formula."""
    text = thing.docstring.value if thing.docstring else ""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([<$\[\]*_])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)
