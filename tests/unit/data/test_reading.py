"""Every row of a file is in the table or set aside with its line and the reason; whatever is no table says so."""

import csv
import gzip
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.data import read
from millrace.errors import InvalidInputError, PayloadTooLargeError
from millrace.schema import MAX_COLUMNS

from tests.tables import RawTable, read_table

FRAME = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "", "z"], "c": [1.5, None, 3.0]})


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


PARQUET = parquet_bytes(FRAME)
WIDE = ",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join("1" * 10_000) + "\n"
WIDE_JSON = json.dumps({f"c{i}": 1 for i in range(10_000)}) + "\n"


def cells(table: RawTable) -> list[dict[str, str | None]]:
    return table.strings.to_pylist()


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("empty.csv", b"", "empty"),
        ("blank.csv", b"\r\n \n", "empty"),
        ("only_bom.csv", b"\xef\xbb\xbf", "empty"),
        ("header_only.csv", b"a,b\n", "header of 2 columns but no rows"),
        ("no_rows.parquet", parquet_bytes(FRAME.head(0)), "no rows"),
        ("one_column.csv", b"a\n1\n", "single column"),
        ("caret.csv", b"a^b\n1^2\n", r"'\^' separates the columns"),
        ("image.csv", b"\x89PNG\r\n\x1a\n\0\0", "an image"),
        ("workbook.csv", b"PK\x03\x04 ...", "Excel"),
        ("page.csv", b"<!doctype html>\n<html></html>", "web page"),
        ("binary.csv", bytes(range(256)) * 8, "binary"),
        ("odd_utf16.csv", b"\xff\xfea\0,\0b", "neither text nor Parquet"),
        ("cut.parquet", PARQUET[: len(PARQUET) // 2], "damaged or cut off"),
        ("cut_anywhere.csv", PARQUET[:-3], "damaged or cut off"),
        ("named.parquet", b"a,b\n1,2\n", "damaged or cut off"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 5000, mtime=0)[:40], "damaged or cut off"),
        ("duplicate.csv", b"a,b,a\n1,2,3\n", "repeats 'a'"),
        ("nameless.csv", b",a\n0,1\n", r"column 1 has no name.*index=False"),
        ("nameless_middle.csv", b"a,,b\n0,1,2\n", r"column 2 has no name; give every column one"),
        ("wide.csv", WIDE.encode(), "10,000 columns; at most 2,000"),
        ("wide.jsonl", WIDE_JSON.encode(), "columns; at most 2,000"),
        ("wide.parquet", parquet_bytes(pd.DataFrame({f"c{i}": [1] for i in range(MAX_COLUMNS + 1)})), "2,001 columns"),
        ("unclosed.csv", b'a,b\n1,"x\n2,3\n4,5\n', "line 2 opens a quote that is never closed"),
        ("unclosed_large.csv", b'a,b\n1,"x\n' + b"2,3\n" * 50_000, "line 2 opens a quote that is never closed"),
        ("bad_header.csv", b'a,"b"c\n1,2\n', "header's quotes"),
        ("unclosed_header.csv", b'a,"b\n1,2\n', "header's quotes"),
        ("array.json", b'[{"a": 1, "b": 2}]', "one object a line"),
        ("numbers.jsonl", b"1\n2\n", "one object a line"),
    ],
)
def test_what_is_no_table_is_refused_in_words(name, body, said):
    with pytest.raises(InvalidInputError, match=said):
        read_table(body, name)


def test_every_bad_name_of_a_header_is_told_at_once():
    with pytest.raises(InvalidInputError) as caught:
        read_table(b"a,a,,b,b,\n1,2,3,4,5,6\n", "bad.csv")
    assert len(caught.value.fields) == 2
    assert "column 3, 6" in caught.value.message
    assert "'a', 'b'" in caught.value.message


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(read, "DEFAULT_LIMITS", read.UploadLimits(max_bytes=1_000))
    with pytest.raises(PayloadTooLargeError, match="unpacks to more than"):
        read_table(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000, mtime=0), "bomb.csv.gz")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("t.csv", "a,b,c\n1,x,1.5\n2,NA,\n3,z,3.0\n"),
        ("t.csv", "\n a , b,c\r\n1, x ,1.5\r\n\r\n2,null,NaN\r\n3,z,3.0"),
        ("t.txt", "a;b;c\n1;x;1.5\n2;;None\n3;z;3.0\n"),
        ("t.tsv", "a\tb\tc\n1\tx\t1.5\n2\t\t\n3\tz\t3.0\n"),
        ("t.psv", "a|b|c\n1|x|1.5\n2||\n3|z|3.0\n"),
        ("t.csv", 'a,b,c\n"1","x",1.5\n2,"",N/A\n3,z,"3.0"\n'),
        ("t.jsonl", '{"a": 1, "b": "x", "c": 1.5}\n{"a": 2, "b": null}\n\n{"a": 3, "b": "z", "c": 3.0}\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_table_is_read_from_every_text_format(name, body, encoding, packed):
    content = body.encode(encoding)
    table = read_table(gzip.compress(content, mtime=0) if packed else content, name + ".gz" if packed else name)
    assert cells(table) == [
        {"a": "1", "b": "x", "c": "1.5"},
        {"a": "2", "b": None, "c": None},
        {"a": "3", "b": "z", "c": "3.0"},
    ]
    assert table.malformed == ()


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.sample(frac=1.0, random_state=0),
        FRAME.set_index(pd.Index([7, 3, 5])),
        FRAME.set_index(pd.date_range("2026-01-01", periods=3)),
        FRAME.set_index(pd.MultiIndex.from_tuples([(1, "x"), (1, "y"), (2, "x")])),
        FRAME,
    ],
    ids=["sampled", "selected", "dates", "levels", "default"],
)
def test_an_index_of_pandas_is_no_column(frame):
    """What splits and selects rows leaves their old numbers in the file: no request has them."""
    assert set(cells(read_table(parquet_bytes(frame), "t.parquet"))[0]) == {"a", "b", "c"}


def test_an_index_with_a_name_is_a_column():
    named = FRAME.set_index(pd.Index([7, 3, 5], name="customer"))
    assert "customer" in cells(read_table(parquet_bytes(named), "t.parquet"))[0]


def test_parquet_gives_the_cells_that_csv_gives():
    frame = pd.DataFrame(
        {
            "whole": [1, 2],
            "real": [2.0, float("nan")],
            "flag": [True, False],
            "day": pd.to_datetime(["2024-01-02", "2024-01-03 04:05:06"], format="ISO8601"),
            "kind": pd.Categorical(["x", "y"]),
            "list": [[1], None],
        }
    )
    assert cells(read_table(parquet_bytes(frame), "t.parquet")) == [
        {"whole": "1", "real": "2.0", "flag": "true", "day": "2024-01-02 00:00:00.000000", "kind": "x", "list": "[1]"},
        {"whole": "2", "real": None, "flag": "false", "day": "2024-01-03 04:05:06.000000", "kind": "y", "list": None},
    ]


def test_malformed_rows_keep_their_line_and_their_text():
    body = 'a,b\n1,"two\nlines"\n\n3\n4,5,6\n7,"x"y\n8,9\n'
    table = read_table(body.encode(), "t.csv")
    assert table.lines.tolist() == [2, 8]
    assert [(row.line, row.text) for row in table.malformed] == [(5, "3"), (6, "4,5,6"), (7, '7,"x"y')]
    assert table.malformed[0].reason == "1 fields where the header has 2"
    assert "quotes" in table.malformed[2].reason


def test_a_long_malformed_row_is_cut():
    table = read_table(b"a,b\n1,2\n" + b"x" * 5_000 + b"\n", "t.csv")
    assert len(table.malformed[0].text) == 1_000


def test_malformed_json_lines_are_set_aside():
    body = b'{"a": 1, "b": 2}\nnot json\n[1]\n{"a": 1, "a": 2}\n{"a": "\\ud800", "b": 1}\n{"a": 3, "b": 4}\n'
    table = read_table(body, "t.jsonl")
    assert table.lines.tolist() == [1, 6]
    assert [row.line for row in table.malformed] == [2, 3, 4, 5]


def test_lines_of_another_encoding_are_set_aside():
    body = "city,label\nKöln,1\n".encode() + "Zürich,0\n".encode("cp1252") + b"Bern,1\n"
    table = read_table(body, "t.csv")
    assert table.strings.column("city").to_pylist() == ["Köln", "Bern"]
    (row,) = table.malformed
    assert (row.line, row.reason) == (3, "not valid utf-8 text")
    assert row.text == "Z\N{REPLACEMENT CHARACTER}rich,0"
    assert [finding.check for finding in table.findings] == ["mixed_encodings"]


def test_a_file_in_a_single_byte_encoding_is_read_and_reported():
    table = read_table("city,label\nZürich,0\n".encode("cp1252"), "t.csv")
    assert table.strings.column("city").to_pylist() == ["Zürich"]
    assert table.description["encoding"] == "cp1252"
    assert [finding.check for finding in table.findings] == ["encoding"]
    assert read_table(b"a,b\n\x81,1\n", "t.csv").description["encoding"] == "latin-1"


def test_a_nul_far_into_the_file_spoils_its_row_only():
    body = b"a,b\n" + b"1,2\n" * 300_000 + b"\0,3\n" + b"4,5\n"
    table = read_table(body, "t.csv")
    assert len(table) == 300_001
    assert [row.line for row in table.malformed] == [300_002]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
records = st.lists(texts, min_size=1, max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(records, min_size=1, max_size=12), st.sampled_from(",;\t|"))
def test_every_record_is_in_the_table_or_set_aside(rows, delimiter):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["first", "second", "third"])
    writer.writerows(rows)
    table = read_table(buffer.getvalue().encode(), "t.csv")
    fitting = [row for row in rows if len(row) == 3]
    assert len(table) == len(fitting)
    assert len(table.malformed) == len(rows) - len(fitting)
    starts = sorted([*table.lines.tolist(), *(row.line for row in table.malformed)])
    assert len(set(starts)) == len(rows)


@given(st.lists(st.text(st.sampled_from('a1", \t;\\é'), max_size=8), max_size=10))
@example(['"a""', "1,2"])
@example(['a,"b', '"c"d,1'])
def test_every_line_of_a_wild_text_is_accounted_for(lines):
    body = "x,y\n" + "".join(line + "\n" for line in lines)
    try:
        table = read_table(body.encode(), "t.csv")
    except InvalidInputError:
        return
    starts = {*table.lines.tolist(), *(row.line for row in table.malformed)}
    first_lines = [number for number, line in enumerate(lines, start=2) if line]
    assert starts <= set(range(2, len(lines) + 2))
    assert len(starts) == len(table) + len(table.malformed)
    if '"' not in body:
        assert starts == set(first_lines)


@given(st.binary(max_size=300), st.sampled_from(["t.csv", "t.jsonl", "t.parquet", "t.csv.gz"]))
@example(b"PAR1PAR1", "t.parquet")
@example(b"{", "t.csv")
@example(b"\xfe\xff\xd8\x00", "t.csv")
def test_no_bytes_whatever_raise_anything_else(body, name):
    try:
        table = read_table(body, name)
    except (InvalidInputError, PayloadTooLargeError):
        return
    assert isinstance(table.strings, pa.Table)
    assert table.lines.dtype == np.int64
