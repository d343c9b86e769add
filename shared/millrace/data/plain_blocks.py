"""Plain blocks of delimited text, read by Arrow: typed at once where every cell of a column is of the type asked for.

Arrow stops at the first cell that is not of its column's type and names the column. That column is then read as text,
cell by cell, and the others stay typed: so a bad cell costs one column its speed and changes nothing in the result.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from millrace.data.blocks import Block, RecordLayout, count_lines, lay_out, record_ends
from millrace.data.findings import shorten
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow, RowBatch, build_cells
from millrace.data.storage import MOMENT
from millrace.errors import InvalidInputError
from millrace.schema import MISSING_WORDS

_COLUMN_AT_FAULT = re.compile(r"CSV column #(\d+): (?:Row #\d+: )?CSV conversion error")


@dataclass(slots=True)
class PlainBlocks:
    """Reads the plain blocks of one file; on any number of threads.

    Parameters
    ----------
    names : list of str
        The columns, in the file's order.
    delimiter : str
        Between fields.
    missing : pyarrow.Array or None
        The words that mean "missing"; None stands for :data:`millrace.schema.MISSING_WORDS`.
    types : mapping of str to pyarrow.DataType
        The columns that are wanted, and what they are best read as; none wants every column as text.
    """

    names: list[str]
    delimiter: str
    missing: pa.Array | None
    types: Mapping[str, pa.DataType]
    _quickest: dict[str, pa.DataType] = field(init=False)

    def __post_init__(self) -> None:
        self._quickest = {name: _quickest_type(kind) for name, kind in self.types.items()}

    def read(self, block: Block) -> RowBatch | None:
        """Read a plain block; None when Arrow will not."""
        body = block.body
        malformed: tuple[QuarantinedRow, ...] = ()
        table = self._parse_typed(body, quoted=block.quoted)
        if table is not None and table.num_rows == block.lines:
            lines = np.arange(block.first_line, block.first_line + table.num_rows, dtype=np.int64)
        else:
            layout = lay_out(body, self.delimiter)
            fitting = layout.widths == len(self.names)
            lines = layout.lines[fitting] + block.first_line
            if not fitting.all():
                malformed = self._wrong_widths(block, layout)
                pieces = zip(layout.starts[fitting].tolist(), layout.ends[fitting].tolist(), strict=True)
                body = b"".join(body[start:end] + b"\n" for start, end in pieces)
                table = self._parse_typed(body, quoted=block.quoted) if body else None
            if not body:
                return RowBatch(lines, partial(_no_cells, self.names), malformed, self.names)
            if table is None or table.num_rows != len(lines):
                return None
        if not self.types:
            cells = build_cells(self.names, table.columns, self.missing)
            return RowBatch(lines, lambda: cells, malformed, self.names)
        typed = {name: table.column(name) for name in self.types}
        as_text = partial(self._as_text, body, quoted=block.quoted)
        return RowBatch(lines, as_text, malformed, self.names, typed, nulls_known=True)

    def _parse_typed(self, body: bytes, *, quoted: bool) -> pa.Table | None:
        """Parse whole records, reading as text what is not of the type that it should be; None when they are unfit."""
        spread = quoted and _spread(body)
        types = dict(self._quickest)
        while True:
            try:
                return self._parse(body, types, quoted=quoted, spread=spread)
            except pa.ArrowInvalid as fault:
                found = _COLUMN_AT_FAULT.search(str(fault))
                if found is None:
                    return None
                # Arrow counts the file's columns, whether or not they are wanted.
                name = self.names[int(found[1])]
                if types.get(name, pa.string()) == pa.string():
                    return None
                if types[name] == pa.date32():
                    # Dates with times on them: no block of this file will be otherwise.
                    self._quickest[name] = pa.string()
                types[name] = pa.string()

    def _parse(self, body: bytes, types: Mapping[str, pa.DataType], *, quoted: bool, spread: bool) -> pa.Table:
        return pa_csv.read_csv(
            pa.BufferReader(body),
            read_options=pa_csv.ReadOptions(
                # In one piece: columns then lie in one too, and it is blocks that are read at the same time.
                column_names=self.names,
                block_size=len(body) + 1,
                use_threads=False,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=spread,
                ignore_empty_lines=True,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: types.get(name, pa.string()) for name in self.names},
                null_values=sorted(MISSING_WORDS) if self.missing is None else self.missing.to_pylist(),
                strings_can_be_null=True,
                include_columns=list(types) or None,
                check_utf8=False,
            ),
        )

    def _as_text(self, body: bytes, *, quoted: bool) -> pa.Table:
        try:
            table = self._parse(body, {}, quoted=quoted, spread=quoted and _spread(body))
        except pa.ArrowInvalid as fault:  # the same body was read with types before
            raise InvalidInputError("the file could not be read twice") from fault
        return build_cells(self.names, table.columns, self.missing)

    def _wrong_widths(self, block: Block, layout: RecordLayout) -> tuple[QuarantinedRow, ...]:
        wrong = np.flatnonzero(layout.widths != len(self.names)).tolist()
        return tuple(
            QuarantinedRow(
                int(layout.lines[row]) + block.first_line,
                f"{int(layout.widths[row]):,} fields where the header has {len(self.names):,}",
                shorten(block.body[layout.starts[row] : layout.ends[row]].decode("utf-8", "replace"), MAX_ROW_TEXT),
            )
            for row in wrong
        )


def _spread(body: bytes) -> bool:
    """Tell whether a record takes several lines."""
    return len(record_ends(body)) != count_lines(body)


def _quickest_type(kind: pa.DataType) -> pa.DataType:
    """Return what Arrow's parser reads faster and without loss."""
    return pa.date32() if kind == MOMENT else kind


def _no_cells(names: list[str]) -> pa.Table:
    return pa.table({name: pa.array([], type=pa.string()) for name in names})
