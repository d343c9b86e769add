"""Reading typed and on several threads finds what reading every cell as text finds, in the same rows and lines."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.data import blocks
from millrace.data.blocks import BlockReader
from millrace.data.checks import CheckedTable, check_table
from millrace.data.raw import RowBatch, TableReader, normalise
from millrace.data.read import open_table
from millrace.data.typed_table import read_types
from millrace.schema import Column, ColumnRules, TableSchema
from millrace.spec.data import ExpressionCheck, ReadSpec

SCHEMA = TableSchema(
    (
        Column("whole", "integer", rules=ColumnRules(minimum=-3, maximum=40)),
        Column("part", "number", rules=ColumnRules(nullable=False)),
        Column("truth", "boolean", true_values=("yes",), false_values=("no",)),
        Column("day", "datetime", formats=("iso",), rules=ColumnRules(maximum=1_700_000_000)),
        Column("written", "datetime", formats=("%d.%m.%Y", "iso")),
        Column("word", "category", categories=("a", "b"), rules=ColumnRules(allowed=("a", "b", "NA?"))),
        Column("text", "text", "ignored", rules=ColumnRules(pattern="[a-z ]*", severity="warning")),
        Column("label", "integer", "target"),
    ),
    "binary",
    ("0", "1"),
)
CONDITIONS = [ExpressionCheck(name="order", expression="whole <= part", severity="warning")]

odd = st.sampled_from(
    ["", "NA", " ", " NA ", "x", "é", " é", '"', "a\nb", "0x1f", "inf", "nan", "1e400", "-", "\u00a07"]
)
number = st.one_of(
    st.integers(-5, 50).map(str), st.floats(width=32).map(repr), st.sampled_from([" 7", "+5", "1.", "-0"])
)
day = st.sampled_from(["2024-01-31", "0001-01-01", "9999-12-31", "2024-02-30", " 2024-03-01", "2024-01-31 10:00:00"])


def mostly(cells: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(cells, cells, cells, odd)


rows = st.lists(
    st.tuples(
        mostly(number),
        mostly(number),
        mostly(st.sampled_from(["yes", "no", "Yes", "true"])),
        mostly(day),
        mostly(st.sampled_from(["31.01.2024", "2024-01-31"])),
        mostly(st.sampled_from(["a", "b", "c", " a", "b "])),
        mostly(st.text("ab c", max_size=4)),
        mostly(st.sampled_from(["0", "1", "0", "1", "2", "1.0"])),
    ),
    min_size=1,
    max_size=30,
)


class AsText(TableReader):
    """A reader that gives text, whatever is asked for."""

    def __init__(self, body: bytes, read: ReadSpec) -> None:
        self.reader = open_table(body, "t.csv", read)
        self.names = self.reader.names

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        return self.reader.readings()


def written(cells: list[tuple[str, ...]], quoting: Any) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting, lineterminator="\n")
    writer.writerows([[column.name for column in SCHEMA.columns], *cells])
    return buffer.getvalue().encode()


def told(checked: CheckedTable) -> list[Any]:
    columns = [checked.table.columns[column.name] for column in SCHEMA.columns]
    return [
        [[repr(value) for value in column.tolist()] for column in columns],
        checked.lines.tolist(),
        [row.to_dict() for row in checked.quarantined],
        [finding.to_dict() for finding in checked.findings],
        checked.rows,
    ]


@settings(deadline=None)  # the machine may be busy
@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.integers(60, 900), st.none() | st.just(("-", "x")))
@example([("0x1f", "1", "yes", "2024-01-31", "", "a", "", "1")] * 3, csv.QUOTE_MINIMAL, 900, None)
def test_the_fast_path_finds_what_the_slow_ones_find(cells, quoting, size, null_words):
    body, read = written(cells, quoting), ReadSpec(null_values=null_words)
    with mock.patch.object(blocks, "BLOCK_BYTES", size):
        fast = told(check_table(open_table(body, "t.csv", read), SCHEMA, 1.0, CONDITIONS))
        assert fast == told(check_table(AsText(body, read), SCHEMA, 1.0, CONDITIONS))
        with mock.patch.object(BlockReader, "_is_plain", return_value=False):
            assert fast == told(check_table(open_table(body, "t.csv", read), SCHEMA, 1.0, CONDITIONS))


def test_only_the_column_at_fault_is_read_as_text():
    cells = [(str(i), f"{i}.5", "yes", "2024-01-31", "31.01.2024", "a", "t", "1") for i in range(50)]
    cells[7] = ("many", *cells[7][1:])
    cells[9] = (*cells[9][:3], "2024-01-31 10:00", *cells[9][4:])
    (batch,) = open_table(written(cells, csv.QUOTE_MINIMAL), "t.csv").batches(read_types(SCHEMA.columns))
    types = {name: column.type for name, column in batch.typed.items()}
    assert (types["whole"], types["day"]) == (pa.string(), pa.string())
    assert (types["part"], types["label"]) == (pa.float64(), pa.float64())
    (batch,) = open_table(written(cells, csv.QUOTE_MINIMAL), "t.csv").batches({"day": pa.date32()})
    assert {name: column.type for name, column in batch.typed.items()} == {"day": pa.string()}


def test_numbers_in_another_style_leave_the_other_columns_typed():
    body = b"a;b;day;y\n" + b"1,5;2;2024-01-31;0\n2,5;3;2024-01-31;1\n" * 20
    types = {"a": pa.float64(), "day": read_types([Column("day", "datetime", formats=("iso",))])["day"]}
    (batch,) = open_table(body, "t.csv").batches(types)
    assert (batch.typed["a"].type, batch.typed["day"].type) == (pa.string(), pa.date32())


@pytest.mark.parametrize("others", [["1", "2.5"], ["-1", "2.5"], ["", "3"], ["-3", ""], []])
def test_negative_zero_is_zero(others):
    cells = ["-0", "-0.0", "0", *others]
    body = "n,label\n" + "".join(f"{cell},{row % 2}\n" for row, cell in enumerate(cells))
    schema = TableSchema((Column("n", "number"), Column("label", "integer", "target")), "binary", ("0", "1"))
    values = check_table(open_table(body.encode(), "t.csv"), schema, 0.1).table.columns["n"]
    assert not np.signbit(values[:3]).any()
    assert [float(value) for value in values[3:] if not np.isnan(value)] == [float(cell) for cell in others if cell]


def test_batches_are_judged_in_the_file_s_order_on_however_many_threads():
    body = b"n,label\n" + b"".join(b"%d,%d\n" % (i, i % 2) for i in range(5_000))
    schema = TableSchema((Column("n", "integer"), Column("label", "integer", "target")), "binary", ("0", "1"))
    with mock.patch.object(blocks, "BLOCK_BYTES", 500), mock.patch("os.cpu_count", return_value=4):
        checked = check_table(open_table(body, "t.csv"), schema, 0.1)
    assert checked.table.columns["n"].tolist() == list(range(5_000))
    assert np.array_equal(checked.lines, np.arange(2, 5_002))


@pytest.mark.parametrize("word", ["a", " a", "a ", "", "é", "aé ", "\u00a0", "a b", "\ta", "~", "!"])
def test_words_are_trimmed_exactly_where_they_have_blanks(word):
    for words in ([word], ["x", word], [word, None, "x"], [None, word]):
        array = pa.array(["skipped", *words], pa.string()).slice(1)
        expected = [None if cell is None or not cell.strip() else cell.strip() for cell in words]
        assert normalise(pa.chunked_array([array])).to_pylist() == expected
