"""Formats and columns of local tables."""

import gzip

import pyarrow as pa
import pytest
from millrace_cli.errors import RefusedError
from millrace_cli.table_file import nearest_name, read_format, read_rows
from pyarrow import parquet


@pytest.mark.parametrize(
    ("body", "description"),
    [
        (b"a,b\n1,2\n", "CSV, 2 columns, comma, utf-8"),
        (b"\xef\xbb\xbfa;b;c\n1,5;2;3\n", "CSV, 3 columns, semicolon, utf-8-sig"),
        ("a\tgröße\n1\t2\n".encode("latin-1"), "CSV, 2 columns, tab, cp1252"),
        ("a|b\n1|2\n".encode("utf-16"), "CSV, 2 columns, pipe, utf-16"),
        (b"sep=;\na;b\n1;2\n", "CSV, 2 columns, semicolon, utf-8"),
        (b'"a, then b",c\n"1, 2",3\n', "CSV, 2 columns, comma, utf-8"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "CSV, 2 columns, comma, utf-8"),
        (b'{"a": 1, "b": 2}\n', "JSON Lines, 2 columns, utf-8"),
        (b"only\n1\n", "CSV, 1 columns, comma, utf-8"),
    ],
)
def test_a_format_is_read_from_the_start_of_the_file(tmp_path, body, description):
    path = tmp_path / "table.csv"
    path.write_bytes(body)

    assert read_format(path).describe() == description
    assert len(read_rows(path).rows) == 1


def test_a_character_cut_by_the_end_of_the_sample_is_no_other_encoding(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_text("a,b\né,2\n", encoding="utf-8")
    monkeypatch.setattr("millrace_cli.table_file._SAMPLE_BYTES", 5)

    assert read_format(path).encoding == "utf-8"


def test_parquet_has_the_columns_of_its_schema(tmp_path):
    parquet.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "table.parquet")

    assert read_format(tmp_path / "table.parquet").columns == ("a", "b")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"PK\x03\x04rest", "workbook or an archive"),
        (b"PAR1rest", "damaged Parquet"),
        (b"\x1f\x8bxx", "cannot be read"),
        (b"\n \n", "no header"),
        (b'{"a": \n', "not a JSON object"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, body, message):
    path = tmp_path / "table.csv"
    path.write_bytes(body)

    with pytest.raises(RefusedError, match=message):
        read_format(path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Specis", "species"),
        ("COLOUR", "color"),
        ("sale price", "SalePrice"),
        ("sale_price", "SalePrice"),
        ("zzz", None),
    ],
)
def test_a_misspelt_name_finds_the_one_it_stands_for(name, nearest):
    assert nearest_name(name, ["species", "color", "SalePrice", "island"]) == nearest


@pytest.mark.parametrize("content", [bytes(range(256)) * 8, b"a,b\n1,\0\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_binary_file_is_refused_before_anything_is_looked_up_in_it(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(RefusedError, match="is binary, not a table"):
        read_format(path)
