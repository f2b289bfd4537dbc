"""CSV and TSV files from strangers, read with Python's `csv`: nothing is lost without being counted in lines.

A quotation mark that nobody closes is the danger of the format. Everything up to the next one becomes a single text,
and the file looks shorter than it is. Such files are refused with the number of the line.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

from llmcourse._base.errors import CourseError
from llmcourse.data.texts import is_unicode

MAX_HEADER_CHARACTERS = 1_000_000
MAX_FIELD_CHARACTERS = 8_000_000
SAMPLE_CHARACTERS = 1 << 18
DELIMITERS = ",;\t|"
BLOCK_CHARACTERS = 1 << 18
"""Characters of a file that are read at once."""
BATCH_ROWS = 1_000
"""Most rows that are yielded at once where they are read one by one."""

Quotes = Literal["checked", "trusted", "none"]
"""How quotation marks are read: as CSV has them, but refused where they swallow rows; as CSV has them; as characters
like any other."""
QUOTES: tuple[Quotes, ...] = ("checked", "trusted", "none")

NOT_UTF8 = "it is not UTF-8 text"
OPEN_QUOTE = "a quotation mark that is not closed or not doubled"
UNQUOTED = "If quotation marks are ordinary characters in this file, use --quotes none (quotes='none')."

IsRow = Callable[[Sequence[str]], bool]
"""Says whether the fields of a single line look like a whole row."""


Row = TypeVar("Row")
Value = TypeVar("Value")


@dataclass(frozen=True)
class RejectedLine:
    """A place in a file that cannot be read as a row."""

    number: int
    """Number of its first line, from 1."""
    reason: str
    lines: int = 1
    """How many lines it covers."""


class CsvFile:
    """A CSV file: its column names, and its rows one after the other."""

    def __init__(self, path: Path, quotes: Quotes = "checked"):
        """Read the header. Raises CourseError for one that makes no sense."""
        self.path, self.quotes = path, quotes
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))  # its own limit is 131,072
        first, sample = self._read_start()
        self._format: dict[str, Any] = {
            "strict": True,
            "quoting": csv.QUOTE_NONE if quotes == "none" else csv.QUOTE_MINIMAL,
        }
        self._format |= _guess_format(sample, self._format)
        self.names = self._read_names(first)

    def batches(self, names: Sequence[str], is_row: IsRow | None = None) -> Iterator[list[list[str]] | RejectedLine]:
        """Yield some columns of many rows at once, and a RejectedLine for what is no row. Skips blank lines.

        `is_row` helps to notice rows that a quotation mark has swallowed. Raises CourseError for such rows, for a
        quotation mark that is never closed, and for bytes that are not UTF-8. The rows before it are yielded first.
        """
        places = [self.names.index(name) for name in names]
        with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _Lines(file, self.path, self._header_lines)
            while lines.fetch():
                for rows in self._rows(lines, is_row):
                    yield rows if isinstance(rows, RejectedLine) else columns_of(rows, places)
                lines.check()

    def _rows(self, lines: "_Lines", is_row: IsRow | None) -> Iterator[list[list[str]] | RejectedLine]:
        """Yield the fields of the rows that end in these lines."""
        try:
            rows = list(csv.reader(lines.block, **self._format))
        except csv.Error:
            rows = []
        # as many records as lines: each line is one record, because every record takes a line or more
        if len(rows) == len(lines.block) and set(map(len, rows)) == {len(self.names)}:
            lines.take(len(rows))
            yield rows
        else:
            yield from in_batches(self._row_by_row(lines, is_row))

    def _row_by_row(self, lines: "_Lines", is_row: IsRow | None) -> Iterator[list[str] | RejectedLine]:
        """Yield the fields of each row that ends in these lines."""
        reader, width = csv.reader(lines.block, **self._format), len(self.names)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error) and lines.go_on:
                    return
                lines.take(reader.line_num)
                yield self._explain(error, lines, is_row)
                continue
            lines.take(reader.line_num)
            if len(lines.pending) > 1 and self.quotes == "checked":
                self._check_swallowed(lines, is_row)
            if len(fields) > width and not any(fields[width:]):  # delimiters at the end of each line
                fields = fields[:width]
            if len(fields) == width:
                yield fields
            elif fields:
                reason = "too few columns" if len(fields) < width else "too many columns"
                yield RejectedLine(lines.first, reason, len(lines.pending))

    # -- the header --------------------------------------------------------------------------------------------------

    def _read_start(self) -> tuple[str, str]:
        """Return the line of column names, and up to SAMPLE_CHARACTERS that begin with it."""
        with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            above, first, self._header_lines = "", file.readline(MAX_HEADER_CHARACTERS + 1), 1
            if first.lower().startswith("sep=") and len(first.strip()) == 5:  # what Excel writes above the names
                above, first, self._header_lines = first, file.readline(MAX_HEADER_CHARACTERS + 1), 2
            if len(first) > MAX_HEADER_CHARACTERS:
                raise CourseError(
                    f"{self.path}: line 1 is longer than 1 MB. Put the column names on line 1, one row on each other."
                )
            if not is_unicode(above + first):
                raise CourseError(f"{self.path}: line 1 is not UTF-8 text. Save the file as UTF-8.")
            more = file.read(SAMPLE_CHARACTERS)
            # the sample may end inside a record
            return first, first + (more if len(more) < SAMPLE_CHARACTERS else more.rpartition("\n")[0])

    def _read_names(self, first: str) -> list[str]:
        try:
            header = next(csv.reader([first], **self._format), [])
        except csv.Error as error:
            raise CourseError(
                f"{self.path}: line 1 is no CSV header ({error}). Close its quotes, and use one kind of line ends."
            ) from None
        names = [name.strip() for name in header]
        if not any(names):
            raise CourseError(f"{self.path}: line 1 holds no column names. Add them.")
        # pandas writes its index as a column without a name
        return [name or f"unnamed {number}" for number, name in enumerate(names, 1)]

    # -- quotation marks ---------------------------------------------------------------------------------------------

    def _explain(self, error: csv.Error, lines: "_Lines", is_row: IsRow | None) -> RejectedLine:
        """Return what cannot be read. Raises CourseError for a quotation mark that swallows the rest of the file."""
        text, count = str(error), len(lines.pending)
        if "field larger" in text and count == 1:
            return RejectedLine(lines.first, "longer than 8 MB")
        if "unexpected end" in text or "field larger" in text:
            raise CourseError(
                f"{self.path}: line {_opening_line(lines)} opens a quotation mark that is never closed, so it cannot be"
                f" read: the rest of the file would be one text. Close the mark, or double it inside a text. {UNQUOTED}"
            )
        if count > 1 and self.quotes == "checked":
            self._check_swallowed(lines, is_row)
        return RejectedLine(lines.first, OPEN_QUOTE, count)

    def _check_swallowed(self, lines: "_Lines", is_row: IsRow | None) -> None:
        """Raise CourseError if the lines of one record look like rows of their own.

        Of a text with several lines, either the first or the last may look like a row, because the other columns are
        there. That both do, or one between them, is the sign of a quotation mark that was never closed.
        """
        ends = [self._looks_like_row(lines.pending[place], is_row) for place in (0, -1)]
        # a line that is inside a quoted text from its start to its end has no quotation mark, or doubled ones
        inner = [
            '"' not in line.replace('""', "") and self._looks_like_row(line, is_row) for line in lines.pending[1:-1]
        ]
        if is_row is not None:
            swallowed = any(inner) or all(ends)
        elif self._format["delimiter"] == "\t":
            swallowed = any(inner)
        else:  # a line of prose has commas too
            swallowed = sum(inner) >= 2 and 2 * sum(inner) >= len(inner)
        if swallowed:
            last = lines.first + len(lines.pending) - 1
            raise CourseError(
                f"{self.path}: line {lines.first} opens a quotation mark that closes on line {last}, and the lines"
                f" there look like rows. They would become one text. Close the mark on line {lines.first}, or double it"
                f" inside a text. {UNQUOTED} If the text is meant to have these lines, use --quotes trusted."
            )

    def _looks_like_row(self, line: str, is_row: IsRow | None) -> bool:
        """Return whether a line alone has a field for each column, and a label where the label belongs."""
        ways: list[dict[str, Any]] = [{"strict": False}, {"strict": False, "quoting": csv.QUOTE_NONE}]
        fields = [next(csv.reader([line], **self._format | way), []) for way in ways]
        return len(self.names) > 1 and any(
            len(row) == len(self.names) and (is_row is None or is_row(row)) for row in fields
        )


class _Lines:
    """The lines of a file, block by block, with those of the current record in `pending`."""

    def __init__(self, file: TextIO, path: Path, skip: int):
        """Begin after the first lines, `skip` of them."""
        self.block: list[str] = []
        self.pending: list[str] = []
        self.first = 1 + sum(1 for _ in range(skip) if file.readline())
        """Number of the first line of `pending`, from 1."""
        self.go_on = True
        """Whether the file may go on after the block."""
        self._taken = 0
        self._undecoded: int | None = None
        self._file, self._path = file, path

    def fetch(self) -> bool:
        """Read on: the block is now the lines that were not taken and those after them. Return False at the end."""
        rest = self.block[self._taken :]
        more = self._file.readlines(max(BLOCK_CHARACTERS, sum(map(len, rest))))
        self.go_on = bool(more)
        self.first += len(self.pending)
        text = "".join(more)
        if not text.isascii() and not is_unicode(text):
            good = next(place for place, line in enumerate(more) if not is_unicode(line))
            self._undecoded = self.first + len(rest) + good
            more = more[:good]
        self.block, self.pending, self._taken = rest + more, [], 0
        return self.go_on or bool(rest)

    def check(self) -> None:
        """Raise CourseError if the block ends because the line after it is not UTF-8."""
        if self._undecoded:
            raise CourseError(
                f"{self._path}: line {self._undecoded} cannot be read: {NOT_UTF8}. Save the file as UTF-8."
            )

    def take(self, end: int) -> None:
        """Let the current record be the block's lines up to line `end` that were not taken yet."""
        self.first += len(self.pending)
        self.pending, self._taken = self.block[self._taken : end], end


def in_batches(rows: Iterable[Row | RejectedLine]) -> Iterator[list[Row] | RejectedLine]:
    """Yield rows, many at once. Rows before an error, or before the first rejected line, are yielded before it."""
    batch: list[Row] = []
    rejected = False
    try:
        for row in rows:
            if isinstance(row, RejectedLine):
                if batch and not rejected:
                    yield batch
                    batch = []
                rejected = True
                yield row
            else:
                batch.append(row)
                if len(batch) == BATCH_ROWS:
                    yield batch
                    batch = []
    except CourseError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def columns_of(rows: Sequence[Sequence[Value]], places: Iterable[int]) -> list[list[Value]]:
    """Return some columns of rows."""
    return [list(map(itemgetter(place), rows)) for place in places]


def _opening_line(lines: _Lines) -> int:
    """Return the number of the line on which the current record's last open quotation mark stands."""
    inside, opening = False, lines.first
    for number, line in enumerate(lines.pending, lines.first):
        if line.count('"') % 2:
            inside = not inside
            opening = number if inside else opening
    return opening


def _guess_format(sample: str, base: dict[str, Any]) -> dict[str, Any]:
    """Return the delimiter, and whether a space after it belongs to it, that fit the first rows best.

    A format fits if the rows have as many fields as the names. A single column is taken only if no delimiter makes more
    of them that fit a fifth of the rows. Of formats that fit equally, the one with more columns is taken, and a space
    belongs to the text.
    """
    best: tuple[tuple[bool, float, int], dict[str, Any]] | None = None
    for delimiter in DELIMITERS:
        for skip in (False, True):
            choice = {"delimiter": delimiter, "skipinitialspace": skip}
            columns, fitting = _fit(sample, base | choice)
            fit = (columns > 1 and fitting >= 0.2, fitting, columns)
            if best is None or fit > best[0]:
                best = fit, choice
    assert best
    return best[1]


def _fit(sample: str, form: dict[str, Any], rows: int = 100) -> tuple[int, float]:
    """Return how many columns a format makes of the first line, and the share of the rows that have as many.

    The rows are read once as records and once as lines, because one open quotation mark makes a single record of all.
    """
    records = _field_counts(csv.reader(io.StringIO(sample, newline=""), **form), rows)
    lines = io.StringIO(sample, newline="")
    alone = [count for line in islice(lines, rows + 1) for count in _field_counts(csv.reader([line], **form), 1)]
    columns = records[0] if records else 0
    shares = [
        sum(count == columns for count in counts[1:]) / len(counts[1:]) for counts in (records, alone) if counts[1:]
    ]
    return columns, max(shares, default=1.0)


def _field_counts(reader: Iterator[list[str]], rows: int) -> list[int]:
    """Return the number of fields of the first records; -1 for one that cannot be read."""
    counts: list[int] = []
    for _ in range(rows + 1):
        try:
            counts += [len(fields) for fields in islice(reader, 1) if fields]
        except csv.Error:
            counts.append(-1)
    return counts[:-1] if len(counts) > 2 and counts[-1] == -1 else counts  # the sample may end inside a record
