"""Texts that break programs: control and bidi characters, formulas, HTML, separators, lone surrogates."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from llmcourse.data.texts import MAX_CHARACTERS

NASTY = (
    "\0",
    "\x1a\x07\x1b[31m",
    "\u202egnp.exe\u202c",
    "\u2066a\u2069 \u200f",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "e" + "\u0301" * 40,
    "\ufeff",
    "\u2028\u2029\x85\x0b",
    "=cmd|'/c calc'!A1",
    "＝1+1",
    " \ufeff=1+1",
    "@SUM(1+1)*cmd",
    "<script>alert(1)</script>",
    '"',
    '""',
    "'",
    ",",
    ";",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\\",
    "\\n",
    "NULL",
    "nan",
    "1e400",
    "2020-1-1",
    "2020-01-01T00:00:00Z",
    "550E8400-E29B-41D4-A716-446655440000",
    "# no comment",
    "{{7*7}}",
    "%s{0}",
    "x" * MAX_CHARACTERS,
)
pieces = st.one_of(st.sampled_from(NASTY), st.text(max_size=12))
texts = st.lists(pieces, min_size=1, max_size=4).map("".join)
any_texts = st.one_of(texts, st.text(st.characters(exclude_categories=()), max_size=20))  # lone surrogates among them
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
