"""CSV files from strangers: quotation marks that swallow rows are noticed, and every lost line is counted."""

import pytest
from csv_files import YES_NO, write_csv, yes_no
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcourse import CourseError, data
from llmcourse.data import csvfiles

LABEL_FIRST, TEXT_FIRST = ("label", "text"), ("text", "label")
ORDERS = pytest.mark.parametrize("order", [LABEL_FIRST, TEXT_FIRST], ids=["label first", "text first"])
DELIMITERS = pytest.mark.parametrize("delimiter", ["\t", ",", ";"], ids=["tab", "comma", "semicolon"])


def lines(order, delimiter, n=200):
    rows = [{"text": text.replace(",", ""), "label": label} for text, label in yes_no(n)]
    return [delimiter.join(order), *(delimiter.join(row[name] for name in order) for row in rows)]


def write(path, content):
    path.write_text("\n".join(content) + "\n", encoding="utf-8")
    return path


def put(line, order, delimiter, edit):
    """Edit the text of a line."""
    fields = dict(zip(order, line.split(delimiter), strict=True))
    fields["text"] = edit(fields["text"])
    return delimiter.join(fields[name] for name in order)


@ORDERS
@DELIMITERS
@pytest.mark.parametrize("place", [1, 11, 200])
def test_a_quotation_mark_that_is_never_closed_is_refused(tmp_path, order, delimiter, place):
    content = lines(order, delimiter)
    content[place] = put(content[place], order, delimiter, lambda text: '"' + text)
    path = write(tmp_path / "a.tsv", content)
    for read in (data.load, data.read_all):
        with pytest.raises(CourseError, match=rf"line {place + 1} opens a quotation mark that is never.*--quotes none"):
            read(YES_NO, path)
    found = data.load(YES_NO, path, quotes="none")
    assert found.report["read"] == 200 and found.report["rejected"] == 0


@ORDERS
@DELIMITERS
@pytest.mark.parametrize("close", ["end", "start", "both"])
def test_rows_between_two_quotation_marks_are_noticed(tmp_path, order, delimiter, close):
    """The second mark stands at the end of another text, at its start, or around it."""
    content = lines(order, delimiter)
    edits = {"end": lambda text: text + '"', "start": lambda text: '"' + text, "both": lambda text: f'"{text}"'}
    content[11] = put(content[11], order, delimiter, edits["start"])
    content[17] = put(content[17], order, delimiter, edits[close])
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(CourseError, match="line 12 opens a quotation mark that"):
        data.load(YES_NO, path)
    assert data.load(YES_NO, path, quotes="none").report["read"] == 200
    trusted = None
    try:
        trusted = data.load(YES_NO, path, quotes="trusted").report
    except CourseError as error:
        assert "never closed" in str(error)
    # what trust loses is lost in lines, and counted
    assert trusted is None or trusted["read"] + trusted["rejected"] < 200 or trusted["rejected"] >= 6


@ORDERS
def test_a_row_between_neighbours_is_noticed_or_counted(tmp_path, order):
    content = lines(order, "\t")
    content[11] = put(content[11], order, "\t", lambda text: '"' + text)
    content[12] = put(content[12], order, "\t", lambda text: text + '"')
    with pytest.raises(CourseError, match="opens a quotation mark that closes on line 13"):
        data.load(YES_NO, write(tmp_path / "a.tsv", content))


@ORDERS
def test_a_mark_inside_a_text_costs_one_line_and_says_so(tmp_path, order):
    content = lines(order, "\t")
    content[11] = put(content[11], order, "\t", lambda text: '"Great," he said. ' + text)
    found = data.load(YES_NO, write(tmp_path / "a.tsv", content))
    assert found.report["read"] == 199 and found.report["rejected"] == 1 and found.report["rejected_lines"] == [12]
    assert "1 unreadable line" in found.describe() and "--quotes none" in found.describe()
    assert data.load(YES_NO, tmp_path / "a.tsv", quotes="none").report["read"] == 200


@pytest.mark.parametrize("header", [LABEL_FIRST, TEXT_FIRST, ("id", *TEXT_FIRST), (*TEXT_FIRST, "more")])
@DELIMITERS
def test_texts_of_several_lines_are_read(tmp_path, header, delimiter):
    import csv

    rows = [
        {"id": str(i), "text": f"{text}\nsecond line, with a comma\n\nand {i}", "label": label, "more": f"a\nb {i}"}
        for i, (text, label) in enumerate(yes_no())
    ]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *([row[name] for name in header] for row in rows)])
    found = data.read_all(YES_NO, tmp_path / "a.csv")
    assert [row["text"] for row in found] == [row["text"] for row in rows]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["", '"', '""', "x", "x y", ","]), min_size=30, max_size=30), st.sampled_from("\t,;"))
def test_every_line_is_a_row_or_counted_or_refused(tmp_path, marks, delimiter):
    """Marks anywhere in the texts of a file with one row on each line: rows and rejected lines add up to the lines."""
    content = lines(TEXT_FIRST, delimiter, 60)
    for place, mark in enumerate(marks):
        content[2 * place + 1] = mark + content[2 * place + 1]
    try:
        report = data.load(YES_NO, write(tmp_path / "a.csv", content)).report
    except CourseError:
        return
    assert report["read"] + report["rejected"] == 60


def test_the_delimiter_is_the_one_that_fits_the_rows(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{text}, and, really;{label}" for text, label in yes_no()]
    write(path, ["text, as typed, by the customer;label", *rows])
    found = data.load(YES_NO, path, columns={"text": "text, as typed, by the customer"})
    assert found.report["read"] == 40 and found.train["text"][0].endswith("and, really")
    write(path, ["sep=;", "text;label", *rows])
    assert data.load(YES_NO, path).report["read"] == 40
    write(path, ["text|label", *(f"{text}|{label}" for text, label in yes_no())])
    assert data.load(YES_NO, path).report["read"] == 40
    write(path, ["text", *(f"{text}, you know" for text, _ in yes_no())])
    assert data.read_all(YES_NO, path, labelled=False)[0]["text"].endswith(", you know")


def test_spaces_after_the_delimiter_do_not_hide_quotation_marks(tmp_path):
    path = write(tmp_path / "a.csv", ["text, label", *(f'"{text}, truly", "{label}"' for text, label in yes_no())])
    assert data.load(YES_NO, path).report["read"] == 40
    path = write(tmp_path / "b.csv", ["label, text", *(f'{label}, "{text}, truly"' for text, label in yes_no())])
    assert data.load(YES_NO, path).report["read"] == 40


def test_empty_fields_after_the_last_column_are_no_columns(tmp_path):
    path = write(tmp_path / "a.csv", ["text,label", *(f'"{text}",{label},,' for text, label in yes_no())])
    assert data.load(YES_NO, path).report["read"] == 40


def test_a_byte_order_mark_is_no_part_of_a_name_or_a_label(tmp_path):
    path = write_csv(tmp_path / "a.csv", [(text, f"\ufeff{label}\u200b") for text, label in yes_no()], TEXT_FIRST)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert data.load(YES_NO, path).report["read"] == 40


def test_quotes_are_for_csv_files_and_have_three_ways(tmp_path):
    path = write_csv(tmp_path / "a.csv", yes_no(), TEXT_FIRST)
    with pytest.raises(CourseError, match=r"quotes='all' is unknown. Use one of: checked, trusted, none"):
        data.load(YES_NO, path, quotes="all")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "no"}\n')
    with pytest.raises(CourseError, match=r"no CSV, so quotes='none'.*has no effect"):
        data.load(YES_NO, tmp_path / "a.jsonl", quotes="none")


def in_order(path, quotes):
    """Return what a file's batches hold: rows, rejected lines, the error, and the rows before the first of these."""
    rows, rejected, error, before = [], [], "", None
    try:
        for batch in csvfiles.CsvFile(path, quotes).batches(["text", "label"], lambda row: row[0] in ("no", "yes")):
            if isinstance(batch, csvfiles.RejectedLine):
                before = len(rows) if before is None else before
                rejected.append(batch)
            else:
                rows += zip(*batch, strict=True)
    except CourseError as problem:
        error = str(problem)
    return rows, rejected, error, before


PIECES = ["no,a\n", "yes,b\n", "no,", "text", '"', '""', ",", "\n", "\r\n", "\r", '"two\nlines"', "\0", "é", "\udcff", " "]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PIECES), max_size=40),
    st.integers(1, 60),
    st.integers(1, 5),
    st.sampled_from(csvfiles.QUOTES),
)
def test_blocks_of_any_size_give_what_reading_row_by_row_gives(tmp_path, pieces, characters, rows, quotes):
    path = tmp_path / "a.csv"
    path.write_bytes(f"label,text\n{''.join(pieces)}".encode(errors="surrogateescape"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvfiles.CsvFile, "_rows", lambda file, *given: csvfiles.in_batches(file._row_by_row(*given)))
        expected = in_order(path, quotes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvfiles, "BLOCK_CHARACTERS", characters)
        patch.setattr(csvfiles, "BATCH_ROWS", rows)
        assert in_order(path, quotes) == expected
