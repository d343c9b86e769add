"""What real files hold: every row is in the record or in quarantine, none lost, none twice, whatever is in it."""

import csv
import io
import json
import time
from datetime import UTC
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data import blocks
from millrace.data.dataset import open_parquet
from millrace.data.validation import ValidationResult, validate_upload
from millrace.spec import ModelSpec

from tests.tables import dump_parquet

cell = st.one_of(
    st.integers(-5, 5).map(str),
    st.floats(allow_nan=True, allow_infinity=True, width=32).map(repr),
    st.sampled_from(
        ["", "NA", "yes", "no", "2024-01-31", "31.01.2024", "1,5", "1.234,5", '"', "a\nb", "\0", "é", " x "]
    ),
)


def examined(body: bytes, name: str = "t.csv", size: int = 1 << 20, **spec: object) -> ValidationResult:
    with mock.patch.object(blocks, "BLOCK_BYTES", size):
        return validate_upload(body, name, ModelSpec.parse({"max_quarantined_share": 1.0, **spec}), {}, None)


def as_csv(rows: list[list[str]], delimiter: str) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["n", "one", "two", "label"], *rows])
    return buffer.getvalue().encode()


tables = st.lists(st.tuples(cell, cell, st.sampled_from(["0", "1", "1", "0", "2", ""])), min_size=5, max_size=25)


@settings(deadline=None)  # the machine may be busy
@given(tables, st.sampled_from(",;\t"), st.integers(20, 400))
def test_every_row_is_in_the_record_or_in_quarantine(drawn, delimiter, size):
    rows = [[str(number), *cells] for number, cells in enumerate(drawn)]
    body = as_csv(rows, delimiter)
    found = examined(body, size=size, columns={"n": {"type": "integer", "role": "feature"}})
    if found.table is None:
        assert found.reasons
        return
    kept = found.table.columns["n"].astype(int).tolist()
    lines = _first_lines(rows)
    quarantined = [lines[row.line] for row in found.quarantined]
    assert sorted(kept + quarantined) == list(range(len(rows)))
    assert found.rows == len(rows)
    again = open_parquet(io.BytesIO(dump_parquet(found.table)), found.table.schema)
    assert again.columns["n"].astype(int).tolist() == kept


def _first_lines(rows: list[list[str]]) -> dict[int, int]:
    lines, line = {}, 2
    for number, row in enumerate(rows):
        lines[line] = number
        line += 1 + sum(cell.count("\n") for cell in row)
    return lines


@settings(deadline=None)  # the machine may be busy
@given(tables)
def test_json_lines_lose_no_row_either(drawn):
    rows = [{"n": number, "one": one, "two": two, "label": label} for number, (one, two, label) in enumerate(drawn)]
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    found = examined(body, "t.jsonl", columns={"n": {"type": "integer", "role": "feature"}})
    if found.table is None:
        assert found.reasons
        return
    kept = found.table.columns["n"].astype(int).tolist()
    assert sorted(kept + [row.line - 1 for row in found.quarantined]) == list(range(len(rows)))


#: A column of a Parquet file has one type; any of them may have gaps.
typed_cells = st.sampled_from(
    [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint8(), st.integers(0, 255)),
        (pa.float32(), st.floats(width=32)),
        (pa.float64(), st.floats()),
        (pa.decimal128(12, 2), st.decimals(-1000, 1000, places=2)),
        (pa.bool_(), st.booleans()),
        (pa.string(), cell),
        (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "", "NA", "é"])),
        (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(UTC))),
        (pa.date32(), st.dates()),
        (pa.binary(), st.binary(max_size=4)),
        (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=2)),
    ]
)


@st.composite
def parquet_columns(draw):
    size = draw(st.integers(5, 25))
    columns = {"n": pa.array(range(size))}
    for name in ("one", "two"):
        kind, cells = draw(typed_cells)
        columns[name] = pa.array(draw(st.lists(st.none() | cells, min_size=size, max_size=size)), type=kind)
    classes = st.sampled_from(["0", "1", "1", "0", "2", None])
    columns["label"] = pa.array(draw(st.lists(classes, min_size=size, max_size=size)), type=pa.string())
    return pa.table(columns)


@settings(deadline=None)  # the machine may be busy
@given(parquet_columns(), st.integers(1, 25))
def test_parquet_loses_no_row_either(table, group_rows):
    body = io.BytesIO()
    pq.write_table(table, body, row_group_size=group_rows)
    found = examined(body.getvalue(), "t.parquet", columns={"n": {"type": "integer", "role": "feature"}})
    if found.table is None:
        assert found.reasons
        return
    kept = found.table.columns["n"].astype(int).tolist()
    assert sorted(kept + [row.line - 1 for row in found.quarantined]) == list(range(len(table)))


@pytest.mark.parametrize(("rows", "size"), [(20_000, 1_000), (999_999, 4 << 20)])
def test_text_in_the_last_row_of_an_integer_column_is_set_aside(rows, size):
    body = "n,label\n" + "".join(f"{i},{i % 2}\n" for i in range(rows)) + "many,1\n"
    found = examined(body.encode(), size=size)
    assert found.schema.column("n").type == "integer"
    assert [(row.line, row.value) for row in found.quarantined] == [(rows + 2, "many")]
    assert len(found.table) == rows


@pytest.mark.parametrize("size", [1_000, 1 << 20])
def test_a_column_that_turns_into_words_late_is_words(size):
    body = "n,label\n" + "".join(f"{i % 50 if i < 3_000 else f'w{i % 50}'},{i % 2}\n" for i in range(6_000))
    column = examined(body.encode(), size=size).schema.column("n")
    assert (column.type, len(column.categories)) == ("category", 100)


def test_a_hundred_thousand_categories_stay_quick():
    body = "word,n,label\n" + "".join(f"w{i % 100_000},{i % 7},{i % 2}\n" for i in range(120_000))
    start = time.process_time()
    found = examined(body.encode())
    assert time.process_time() - start < 60
    assert found.schema.column("word").role == "ignored"
    assert len(found.table) == 120_000


def test_two_thousand_columns_stay_quick():
    header = ",".join([*(f"c{i}" for i in range(1_999)), "label"])
    row = ",".join(["{0}"] * 1_000 + ["w{1}"] * 999 + ["{2}"])
    body = header + "\n" + "".join(row.format(i * 1.5, i % 3, i % 2) + "\n" for i in range(60))
    start = time.process_time()
    found = examined(body.encode())
    assert found.accepted
    assert time.process_time() - start < 90


def test_dates_in_two_formats_are_both_read():
    body = "day,label\n" + "".join(f"{'2024-01-31' if i % 3 else '15.02.2024'},{i % 2}\n" for i in range(60))
    found = examined(body.encode())
    assert found.accepted
    assert set(found.schema.column("day").formats) == {"iso", "%d.%m.%Y"}
    assert not found.quarantined


@pytest.mark.parametrize("word", ["now", "today"])
def test_the_time_of_reading_is_no_date(word):
    body = "day,label\n" + "".join(f"{word if i == 7 else '15.02.2024'},{i % 2}\n" for i in range(60))
    found = examined(body.encode())
    assert [row.line for row in found.quarantined] == [9]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252"])
def test_other_encodings_are_read_block_by_block(encoding):
    body = "n,city,label\n" + "".join(f"{i},{'Köln' if i % 2 else 'Ulm'},{i % 2}\n" for i in range(2_000))
    found = examined(body.encode(encoding), size=1_001)
    assert found.accepted
    assert found.schema.column("city").categories == ("Köln", "Ulm")
    assert len(found.table) == 2_000


def test_an_unclosed_quote_on_the_last_line_is_set_aside():
    body = "n,city,label\n" + "".join(f"{i},Ulm,{i % 2}\n" for i in range(60)) + '60,"Ulm,1'
    found = examined(body.encode())
    assert found.accepted
    assert [row.line for row in found.quarantined] == [62]


def test_the_spec_says_which_words_mean_missing():
    body = "n,label\n" + "".join(f"{'?' if i % 5 == 0 else i},{i % 2}\n" for i in range(60))
    found = examined(body.encode(), read={"null_words": ["?"]})
    assert found.schema.column("n").type == "integer"
    assert found.schema.column("n").nullable
    assert not found.quarantined
    lines = "".join(json.dumps({"n": "?" if i % 5 == 0 else i, "label": i % 2}) + "\n" for i in range(60))
    assert examined(lines.encode(), "t.jsonl", read={"null_words": ["?"]}).schema.column("n").type == "integer"


@pytest.mark.parametrize(("order", "form"), [("day_first", "%d/%m/%Y"), ("month_first", "%m/%d/%Y")])
def test_the_spec_says_whether_day_or_month_comes_first(order, form):
    body = "day,label\n" + "".join(f"0{1 + i % 9}/0{1 + i % 7}/2024,{i % 2}\n" for i in range(60))
    assert examined(body.encode(), read={"date_order": order}).schema.column("day").formats == (form,)
