"""However a file is cut into blocks, and whichever parser reads them, the same rows come out with the same lines."""

from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.data import blocks
from millrace.data.blocks import BlockReader
from millrace.errors import InvalidInputError

from tests.tables import RawTable, read_table

fields = st.text(st.sampled_from('ab ",;é\n\r'), max_size=4)
plain_fields = st.text(st.sampled_from("ab é.5"), max_size=4)
quoted_fields = fields.map(lambda text: '"' + text.replace('"', '""') + '"')
rows = st.lists(st.one_of(plain_fields, quoted_fields, fields), max_size=4).map(",".join)
files = st.lists(st.tuples(rows, st.sampled_from(["\n", "\r\n", "\n\n", "\r", ""])), max_size=10).map(
    lambda lines: "x,y\n" + "".join(row + ending for row, ending in lines)
)


def read(body: bytes, size: int, *, careful: bool) -> tuple[object, ...]:
    with mock.patch.object(blocks, "BLOCK_BYTES", size):
        if careful:
            with mock.patch.object(BlockReader, "_is_plain", return_value=False):
                return _told(body)
        return _told(body)


def _told(body: bytes) -> tuple[object, ...]:
    try:
        table: RawTable = read_table(body, "t.csv")
    except InvalidInputError as fault:
        return ("refused", fault.message)
    return (table.strings.to_pydict(), table.lines.tolist(), table.malformed)


@settings(deadline=None)  # the machine may be busy
@given(files, st.integers(1, 60))
@example('x,y\n"a\nb",1\n2,3\n', 3)
@example('x,y\n1,2\n3,"4', 5)
@example('x,y\n1,5" pipe\n2,"a"\n3,4\n', 7)
@example("x,y\n\n1,2\n3\n\n4,5\n", 6)
@example("x,y\n\r\r\n5\n", 1)
def test_blocks_and_parsers_agree(text, size):
    body = text.encode()
    whole = read(body, 1 << 20, careful=True)
    assert read(body, 1 << 20, careful=False) == whole
    assert read(body, size, careful=False) == whole
    assert read(body, size, careful=True) == whole


@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_unclosed_quote_on_the_last_line_costs_that_line_only(size):
    with mock.patch.object(blocks, "BLOCK_BYTES", size):
        table = read_table(b'a,b\n1,"x"\n2,3\n4,"5\n', "t.csv")
    assert table.lines.tolist() == [2, 3]
    assert [(row.line, row.text) for row in table.malformed] == [(4, '4,"5')]
    assert "never closed" in table.malformed[0].reason


def test_a_quoted_value_larger_than_a_block_is_read():
    with mock.patch.object(blocks, "BLOCK_BYTES", 64):
        table = read_table(b'a,b\n1,"' + b"x\n" * 500 + b'"\n2,3\n', "t.csv")
    assert table.lines.tolist() == [2, 503]
