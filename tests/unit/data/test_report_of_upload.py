"""Whatever an upload holds, there is a report on it."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.ingest import dataset_report
from millrace.data.validation import ValidationResult, validate_upload
from millrace.spec import ModelSpec

from tests.tables import documented

SPEC = ModelSpec.parse(
    {
        "columns": {"email": {"sensitive": True}},
        "datasheet": {"motivation": "To <b>learn</b>."},
        "split": {"by": "time", "column": "since"},
    }
)


def table(**columns) -> bytes:
    frame = pd.DataFrame(
        {
            "email": [f"person{i}@example.org" for i in range(60)],
            "since": [f"2024-01-{1 + i % 28:02d}" for i in range(60)],
            "amount": np.arange(60) * 1.5,
            "label": [i % 2 for i in range(60)],
        }
        | columns
    )
    return frame.to_csv(index=False).encode()


def report(examined: ValidationResult, spec: ModelSpec = ModelSpec()) -> str:  # noqa: B008  # frozen
    return dataset_report("m", spec, examined, documented(examined).write()).decode()


def test_the_spec_has_its_part_in_the_report():
    shown = report(validate_upload(table(), "t.csv", SPEC, {}, None), SPEC)
    assert "To &lt;b&gt;learn&lt;/b&gt;." in shown
    assert "the newest rows of 'since' are the test split" in shown
    assert "example.org" not in shown


def test_sensitive_values_of_malformed_and_failing_rows_are_not_shown():
    amounts = ["much", *map(str, range(59))]
    body = table(amount=amounts) + b"extra@example.org,1,2,3,4,5\n"
    examined = validate_upload(body, "t.csv", SPEC, {}, None)
    assert len(examined.quarantined) == 2
    shown = report(examined, SPEC)
    assert "example.org" not in shown
    assert "much" in shown


@pytest.mark.parametrize("body", [b"", b"\x00" * 50, b"a,b\n1,2\n", b"label\n1\n", b"x,label\n" + b"1,2\n" * 40])
def test_a_rejected_upload_has_a_report(body):
    examined = validate_upload(body, "t.csv", ModelSpec(), {}, None)
    assert not examined.accepted
    shown = report(examined)
    assert "rejected" in shown
    assert len(re.findall("<h1>", shown)) == 1


CELLS = st.one_of(
    st.none(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(max_size=12),
    st.sampled_from(["yes", "no", "2024-02-29", "<b>", "1,5", "'\"&"]),
    st.datetimes().map(str),
)


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4, unique=True),
    columns=st.lists(st.lists(CELLS, min_size=25, max_size=25), min_size=4, max_size=4),
    target=st.sampled_from([("a", "b"), ("1", "2", "3"), ("0.5", "1.25", "8", "9", "11")]),
)
def test_any_table_has_a_report(names, columns, target):
    frame = pd.DataFrame(dict(zip(names, columns, strict=False)), dtype=object)
    frame["label"] = [target[i % len(target)] for i in range(25)]
    buffer = io.BytesIO()
    frame.to_csv(buffer, index=False)
    shown = report(validate_upload(buffer.getvalue(), "t.csv", ModelSpec(), {"target": "label"}, None))
    assert shown.endswith("</html>\n")
    assert "NaN" not in re.sub(r"<[^>]*>", "", shown) or "NaN" in buffer.getvalue().decode()
    assert not re.search(r'="(?:nan|inf|-inf)', shown)
