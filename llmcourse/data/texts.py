"""The rules for a text: when two count as the same, how long one may be, and that a prompt gets it on one line."""

import re
import unicodedata

from llmcourse._base.errors import CourseError

MAX_CHARACTERS = 4_000
"""Longest text of one field, in characters: about 1,000 tokens, so that a row fits any model of the course."""

INVISIBLE = "\u200b\u2060\ufeff"
"""Characters that show nothing: zero-width space, word joiner, byte order mark. Joiners of emoji are not among them."""

CONTROL_TOKEN = r"<(?=[|｜/]?\w[\w:▁]*[|｜]?>)|\[(?=/?\w+\])"
"""The beginning of what a tokenizer could take for a control token: <|im_end|>, </s>, [INST]."""

_WITHOUT_INVISIBLE = str.maketrans("", "", INVISIBLE)


def is_unicode(text: str) -> bool:
    """Return False for a text with half a character (a lone surrogate), which no file and no tokenizer accepts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def squeeze(text: str) -> str:
    """Return a text with each run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing."""
    return not (text.translate(_WITHOUT_INVISIBLE) if not text.isascii() else text).strip()


def identity(text: str) -> str:
    """Return what texts have in common that count as the same.

    They may differ in letter case, white space, invisible characters and Unicode form (Unicode's canonical caseless
    matching, The Unicode Standard, section 3.13). Every comparison of texts and of labels in the course uses this
    function, so that no two parts disagree.
    """
    return fold(squeeze(text))


def fold(text: str) -> str:
    """Return the `identity` of a text whose white space is squeezed already."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", text.translate(_WITHOUT_INVISIBLE))
    return squeeze(unicodedata.normalize("NFC", decomposed.casefold()))


def one_line(value: object) -> str:
    """Return a field's text on one line, so that it cannot imitate the prompt's structure.

    Line breaks separate the parts of a prompt. A text on one line cannot start a section, or give the row's answer at
    the start of a line. Control tokens such as `<|im_end|>` are broken up, because a tokenizer would read them as the
    end of the message. The words stay as they are. Whether the model obeys them is another question (see
    `data.injections`).

    Raises CourseError for a text of more than MAX_CHARACTERS, and for one with half a character.
    """
    text = squeeze(str(value))
    if not is_unicode(text):
        raise CourseError(
            "A text holds half a character (a lone surrogate): it was not read as UTF-8. Give it as UTF-8 text."
        )
    if len(text) > MAX_CHARACTERS:
        raise CourseError(
            f"A text of {len(text):,} characters is too long for a prompt: at most {MAX_CHARACTERS:,}. Shorten it."
        )
    return re.sub(CONTROL_TOKEN, lambda match: match.group() + " ", text)
