"""Takes access tokens out of what is said: messages of errors, and of the errors behind them that a traceback shows.

Hubs answer a failed request with a text of their own, libraries put that text into their messages, and ours quote them. Whoever
answers may repeat what was sent to him, the token included; and messages are pasted into forums, and saved in notebooks.
"""

import contextlib
import json
import os
import re
import sys

HIDDEN = "[token hidden]"
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN")
SHORTEST = 8
"""A shorter value is no token: it would take harmless words out of a message."""

# hub tokens, Kaggle's newer ones, and what a request's Authorization header holds
_LOOKS = re.compile(
    r"\bhf_(?:(?:oauth|jwt)_+[\w.~-]{10,}|[A-Za-z0-9]{20,})|\bKGAT_\w{20,}|(?<=Bearer )[\w.~+/=-]{20,}|(?<=Basic )[\w+/=-]{20,}"
)


def redacted(text: str) -> str:
    """`text` without this user's tokens, and without what looks like anybody's."""
    return _without(_own(), text)


def clean(error: BaseException | None) -> None:
    """Redact, in place, what an error and those behind it (its causes, what was being handled) say of themselves."""
    own, seen, todo = _own(), set(), [error]
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        todo += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
        said = tuple(_without(own, value) if isinstance(value, str) else value for value in error.args)
        if said != error.args:
            error.args = said
        # an OSError prints these two, and a library's error may keep its text under any name
        for name in ("strerror", "filename", *vars(error)):
            value = getattr(error, name, None)
            if isinstance(value, str) and _without(own, value) != value:
                with contextlib.suppress(AttributeError):  # one that cannot be set
                    setattr(error, name, _without(own, value))
        for place, note in enumerate(getattr(error, "__notes__", ())):
            error.__notes__[place] = _without(own, note)


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _LOOKS.sub(HIDDEN, text)


def excepthook(kind, error, trace) -> None:
    """Like Python's own, without tokens: for errors that nobody foresaw."""
    clean(error)
    sys.__excepthook__(kind, error, trace)


def _own() -> list[str]:
    """The tokens of this user, the longest first: in the environment, in the hub's file, in Kaggle's."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    hub = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    found = [os.environ.get(name) for name in VARIABLES]
    found.append(_read(os.environ.get("HF_TOKEN_PATH") or os.path.join(hub, "token")))
    found.append(_read(os.environ.get("KAGGLE_API_TOKEN", "")))  # it may name a file
    for folder in (os.environ.get("KAGGLE_CONFIG_DIR"), "~/.kaggle", "~/.config/kaggle"):
        if folder:
            place = os.path.expanduser(folder)
            found += [_read(os.path.join(place, name)) for name in ("access_token", "access_token.txt")]
            with contextlib.suppress(ValueError, KeyError, TypeError):  # no such file, or not Kaggle's
                found.append(str(json.loads(_read(os.path.join(place, "kaggle.json")))["key"]))
    secrets = {value.strip() for value in found if value}
    return sorted((value for value in secrets if len(value) >= SHORTEST), key=len, reverse=True)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
