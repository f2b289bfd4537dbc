"""Take access tokens out of error messages, and out of the errors behind them that a traceback shows.

Hubs answer a failed request with a text, libraries put that text into their messages, and ours quote them. The text may
repeat what was sent, the token included. Messages are then pasted into forums and saved in notebooks.
"""

import contextlib
import json
import os
import re
import sys
from types import TracebackType

HIDDEN = "[token hidden]"
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN")
SHORTEST = 8
"""Shorter values are not taken for tokens, because they would remove harmless words from a message."""

# hub tokens, Kaggle's newer tokens, and the content of a request's Authorization header
_TOKEN = re.compile(
    r"\bhf_(?:(?:oauth|jwt)_+[\w.~-]{10,}|[A-Za-z0-9]{20,})|\bKGAT_\w{20,}"
    r"|(?<=Bearer )[\w.~+/=-]{20,}|(?<=Basic )[\w+/=-]{20,}"
)


def redacted(text: str) -> str:
    """Return `text` without this user's tokens, and without anything that looks like a token."""
    return _replace(_own_tokens(), text)


def clean(error: BaseException | None) -> None:
    """Remove tokens, in place, from an error and from the errors behind it: its causes, and what was being handled."""
    tokens, seen, todo = _own_tokens(), set(), [error]
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        todo += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
        args = tuple(_replace(tokens, value) if isinstance(value, str) else value for value in error.args)
        if args != error.args:
            error.args = args
        # an OSError prints these two, and a library's error may keep its text under any name
        for name in ("strerror", "filename", *vars(error)):
            value = getattr(error, name, None)
            if isinstance(value, str) and _replace(tokens, value) != value:
                with contextlib.suppress(AttributeError):  # a read-only attribute
                    setattr(error, name, _replace(tokens, value))
        notes = getattr(error, "__notes__", [])
        notes[:] = [_replace(tokens, note) for note in notes]


def reason(error: BaseException) -> str:
    """Clean an error and return the first line of its text, or its type's name if it has none."""
    clean(error)
    return (str(error).splitlines() or [type(error).__name__])[0]


def _replace(tokens: list[str], text: str) -> str:
    for token in tokens:
        text = text.replace(token, HIDDEN)
    return _TOKEN.sub(HIDDEN, text)


def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error as Python does, without tokens."""
    clean(error)
    sys.__excepthook__(kind, error, trace)


def _own_tokens() -> list[str]:
    """Return this user's tokens, the longest first: from the environment, the hub's file and Kaggle's files."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    hub = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    values = [os.environ.get(name) for name in VARIABLES]
    values.append(_read(os.environ.get("HF_TOKEN_PATH") or os.path.join(hub, "token")))
    values.append(_read(os.environ.get("KAGGLE_API_TOKEN", "")))  # it may name a file
    for folder in (os.environ.get("KAGGLE_CONFIG_DIR"), "~/.kaggle", "~/.config/kaggle"):
        if folder:
            path = os.path.expanduser(folder)
            values += [_read(os.path.join(path, name)) for name in ("access_token", "access_token.txt")]
            with contextlib.suppress(ValueError, KeyError, TypeError):  # missing, or not Kaggle's
                values.append(str(json.loads(_read(os.path.join(path, "kaggle.json")))["key"]))
    tokens = {value.strip() for value in values if value}
    return sorted((token for token in tokens if len(token) >= SHORTEST), key=len, reverse=True)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
