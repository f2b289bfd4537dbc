"""What a text may be: how long, and on one line."""

import re

from llmcourse._base.errors import CourseError

MAX_CHARACTERS = 4_000
"""Longest text of one field, in characters: about 1,000 tokens, so that a row fits any model of the course."""


def is_unicode(text: str) -> bool:
    """False for a text with half a character (a lone surrogate), which no file and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(value: object) -> str:
    """A field's text on one line, unable to imitate the prompt's structure.

    A prompt's parts are told apart by line breaks, so a text that is folded onto one line cannot open a section or
    answer in the row's place at the start of a line. Control tokens such as `<|im_end|>` are broken up: a tokenizer would take
    them for the end of the message. What the text *says* is left as it is; whether the model believes it is another
    matter, and is measured.

    Raises CourseError for a text over MAX_CHARACTERS, and for one with half a character.
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
    return re.sub(r"<(?=[|/]?\w[\w:]*\|?>)|\[(?=/?\w+\])", lambda mark: mark.group() + " ", text)
