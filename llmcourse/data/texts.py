"""The rules for a text: how long it may be, and that a prompt gets it on one line."""

import re

from llmcourse._base.errors import CourseError

MAX_CHARACTERS = 4_000
"""Longest text of one field, in characters: about 1,000 tokens, so that a row fits any model of the course."""


def is_unicode(text: str) -> bool:
    """Return False for a text with half a character (a lone surrogate), which no file and no tokenizer accepts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(value: object) -> str:
    """Return a field's text on one line, so that it cannot imitate the prompt's structure.

    Line breaks separate the parts of a prompt. A text on one line cannot start a section, or give the row's answer at
    the start of a line. Control tokens such as `<|im_end|>` are broken up, because a tokenizer would read them as the
    end of the message. The words stay as they are. Whether the model obeys them is another question (see
    `data.injections`).

    Raises CourseError for a text of more than MAX_CHARACTERS, and for one with half a character.
    """
    text = " ".join(str(value).split())
    if not is_unicode(text):
        raise CourseError(
            "A text holds half a character (a lone surrogate): it was not read as UTF-8. Give it as UTF-8 text."
        )
    if len(text) > MAX_CHARACTERS:
        raise CourseError(
            f"A text of {len(text):,} characters is too long for a prompt: at most {MAX_CHARACTERS:,}. Shorten it."
        )
    return re.sub(r"<(?=[|/]?\w[\w:]*\|?>)|\[(?=/?\w+\])", lambda match: match.group() + " ", text)
