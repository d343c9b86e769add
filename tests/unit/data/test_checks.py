"""Every check finds what it is for, says where, and lets pass what it is not for."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.batch_checks import find_duplicates
from millrace.data.dataset_checks import NO_DATASET_HISTORY, DatasetHistory, find_skew
from millrace.data.findings import Finding
from millrace.data.row_rules import unmet_rows
from millrace.data.validation import ValidationResult, validate_upload
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec
from millrace.spec.expressions import parse_expression

from tests.tables import documented

N = 200
RNG = np.random.default_rng(7)
FRAME = pd.DataFrame(
    {
        "customer_id": RNG.permutation(N),
        "age": RNG.integers(20, 80, N),
        "income": RNG.normal(50_000, 9_000, N).round(2),
        "plan": RNG.choice(["basic", "plus", "pro"], N),
        "code": [f"AB-{i:03d}" for i in RNG.integers(0, 90, N)],
        "start": pd.to_datetime("2024-01-01") + pd.to_timedelta(RNG.integers(0, 100, N), unit="D"),
        "gender": ["f", "m"] * (N // 2),
        "label": RNG.integers(0, 2, N),
    }
)
FRAME["end"] = FRAME["start"] + pd.to_timedelta(3, unit="D")
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def with_cells(**cells: dict[int, Any]) -> pd.DataFrame:
    frame = FRAME.astype(object)
    for name, values in cells.items():
        for row, value in values.items():
            frame.loc[row, name] = value
    return frame


def look(frame: pd.DataFrame, history: DatasetHistory = NO_DATASET_HISTORY, **spec: Any) -> ValidationResult:
    body = frame.to_csv(index=False).encode()
    return validate_upload(body, "t.csv", ModelSpec.parse(spec), {}, None, history=history)


def found(examined: ValidationResult, check: str) -> list[Finding]:
    return [finding for finding in examined.findings if finding.check == check]


def test_data_as_it_should_be_is_not_remarked_upon():
    assert look(FRAME).findings == ()


RULES = [
    ("age", {"minimum": 18}, "range", {3: 5, 9: 17}),
    ("age", {"maximum": 120}, "range", {3: 500, 9: 121}),
    ("start", {"minimum": 1_577_836_800}, "range", {3: "1999-01-01", 9: "2019-12-31"}),
    ("start", {"maximum": 1_735_689_600}, "range", {3: "2025-01-02", 9: "2999-12-31"}),
    ("plan", {"allowed": ["basic", "plus", "pro"]}, "not_allowed", {3: "gold", 9: "iron"}),
    ("age", {"allowed": [*range(20, 80)]}, "not_allowed", {3: 85, 9: 90}),
    ("code", {"pattern": "AB-[0-9]{3}"}, "pattern", {3: "AB-1", 9: "xAB-001"}),
    ("income", {"nullable": False}, "missing_value", {3: None, 9: None}),
]


@pytest.mark.parametrize(("column", "rule", "check", "wrong"), RULES)
def test_rows_that_break_a_rule_are_set_aside_with_line_and_reason(column, rule, check, wrong):
    examined = look(with_cells(**{column: wrong}), columns={column: rule})
    assert examined.accepted
    assert [row.line for row in examined.quarantined] == [5, 11]
    assert all(f"{column!r} should" in row.reason for row in examined.quarantined)
    (finding,) = found(examined, check)
    assert (finding.severity, finding.count, finding.share) == ("warning", 2, 2 / N)
    assert [line for line, _ in finding.rows] == [5, 11]
    assert len(examined.table) == N - 2


@pytest.mark.parametrize(("column", "rule", "check", "wrong"), RULES)
def test_rows_that_break_a_rule_of_severity_warning_stay(column, rule, check, wrong):
    examined = look(with_cells(**{column: wrong}), columns={column: rule | {"severity": "warning"}})
    assert examined.accepted
    assert not examined.quarantined
    assert found(examined, check)[0].count == 2


@pytest.mark.parametrize(("column", "rule", "check"), [(column, rule, check) for column, rule, check, _ in RULES])
def test_rules_that_are_met_are_not_remarked_upon(column, rule, check):
    assert found(look(FRAME, columns={column: rule}), check) == []


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        *((column, rule) for column, rule, _, _ in RULES if column != "income"),
        ("code", {"type": "text", "role": "ignored", "allowed": [f"AB-{i:03d}" for i in range(90)]}),
    ],
)
def test_a_missing_value_breaks_no_rule_but_that_of_presence(column, rule):
    examined = look(with_cells(**{column: {3: None, 9: None}}), columns={column: rule})
    assert [finding.check for finding in examined.findings] == []
    assert len(examined.table) == N


def test_more_rows_at_fault_than_allowed_reject_the_dataset():
    examined = look(FRAME, columns={"age": {"minimum": 50}})
    assert not examined.accepted
    (finding,) = found(examined, "range")
    assert finding.severity == "error"
    assert len(finding.rows) == 5


def test_every_failure_is_told_at_once():
    frame = with_cells(age={3: 5}, plan={4: "gold"}, income={5: "much"})
    spec = {"age": {"minimum": 18}, "plan": {"allowed": ["basic", "plus", "pro"]}}
    examined = look(frame, columns=spec)
    assert [finding.check for finding in examined.findings] == ["bad_values", "range", "not_allowed", "malformed_rows"]
    assert [row.line for row in examined.quarantined] == [5, 6, 7]


def test_sensitive_values_are_masked_wherever_they_could_show():
    frame = with_cells(age={3: "secret", 4: -7654})
    examined = look(frame, columns={"age": {"sensitive": True, "minimum": 0}})
    assert [row.line for row in examined.quarantined] == [5, 6]
    told = str(documented(examined)) + str([row.to_dict() for row in examined.quarantined])
    assert "secret" not in told
    assert "7654" not in told
    assert "age=***" in examined.quarantined[0].text


UNIQUE = {"type": "integer", "role": "feature", "unique": True}


def test_rows_that_repeat_a_unique_value_are_set_aside_and_the_first_stays():
    first = int(FRAME["customer_id"][0])
    examined = look(with_cells(customer_id={3: first, 9: first}), columns={"customer_id": UNIQUE})
    assert examined.accepted
    assert [(row.line, row.column, row.value) for row in examined.quarantined] == [
        (5, "customer_id", str(first)),
        (11, "customer_id", str(first)),
    ]
    reason = "'customer_id' should differ in every row, and line 2 has it already"
    assert examined.quarantined[0].reason == reason
    assert f"age={FRAME['age'][3]}" in examined.quarantined[0].text
    (finding,) = found(examined, "unique")
    assert (finding.severity, finding.count, finding.share) == ("warning", 2, 2 / N)
    assert finding.rows == ((5, str(first)), (11, str(first)))
    assert (len(examined.table), examined.table.columns["customer_id"][0]) == (N - 2, first)


def test_repeats_of_severity_warning_stay():
    first = int(FRAME["customer_id"][0])
    rule = UNIQUE | {"severity": "warning"}
    examined = look(with_cells(customer_id={3: first}), columns={"customer_id": rule})
    assert examined.accepted
    assert not examined.quarantined
    assert found(examined, "unique")[0].count == 1
    assert len(examined.table) == N


def test_more_repeats_than_allowed_reject_the_dataset():
    examined = look(FRAME, columns={"code": {"unique": True}})
    assert not examined.accepted
    assert found(examined, "unique")[0].severity == "error"


def test_what_differs_or_is_missing_repeats_nothing():
    assert found(look(FRAME, columns={"customer_id": {"unique": True}}), "unique") == []
    missing = with_cells(customer_id=dict.fromkeys(range(5)))
    assert found(look(missing, columns={"customer_id": UNIQUE}), "unique") == []


def test_a_row_that_is_set_aside_for_something_else_is_not_repeated():
    first = int(FRAME["customer_id"][0])
    frame = with_cells(customer_id={3: first}, age={0: 500})
    examined = look(frame, columns={"customer_id": UNIQUE, "age": {"maximum": 120}})
    assert [row.line for row in examined.quarantined] == [2]
    assert found(examined, "unique") == []


def test_repeats_of_one_column_are_gone_before_the_next_is_looked_at():
    frame = with_cells(customer_id={1: int(FRAME["customer_id"][0])}).assign(other=[*range(1, N), 1])
    examined = look(frame, columns={"customer_id": UNIQUE, "other": UNIQUE})
    assert [row.line for row in examined.quarantined] == [3, N + 1]
    frame = frame.assign(other=[0, *range(1, N - 1), 1])
    assert [row.line for row in look(frame, columns={"customer_id": UNIQUE, "other": UNIQUE}).quarantined] == [3]


def test_sensitive_values_that_repeat_are_masked():
    first = int(FRAME["customer_id"][0])
    rule = UNIQUE | {"sensitive": True}
    examined = look(with_cells(customer_id={3: first}), columns={"customer_id": rule})
    (row,) = examined.quarantined
    assert (row.value, "customer_id=***" in row.text) == ("***", True)
    assert found(examined, "unique")[0].rows == ((5, "***"),)


values = st.none() | st.integers(-3, 60)
KINDS = [
    lambda cells: pa.array(cells, pa.float64()),
    lambda cells: pa.array([cell and cell / 2 for cell in cells], pa.float64()),
    lambda cells: pa.array([cell and cell * 1e300 for cell in cells], pa.float64()),
    lambda cells: pa.array([None if cell is None else str(cell) for cell in cells], pa.string()),
    lambda cells: pa.array([None if cell is None else str(cell) for cell in cells]).dictionary_encode(),
    lambda cells: pa.array(cells, pa.int64()).cast(pa.timestamp("us", "UTC")),
]


@pytest.mark.parametrize("kind", range(len(KINDS)))
@settings(deadline=None)  # the machine may be busy
@given(st.lists(values, max_size=30) | st.lists(values, max_size=30, unique=True), st.integers(0, 30))
def test_repeats_are_those_that_pandas_finds(kind, cells, cut):
    array = KINDS[kind](cells)
    if pa.types.is_dictionary(array.type) and array.type.value_type == pa.null():
        return
    repeats = find_duplicates(pa.chunked_array([array[:cut], array[cut:]]))
    series = pd.Series(array.to_pylist(), dtype=object)
    expected = np.flatnonzero(series.duplicated() & series.notna())
    assert repeats.rows.tolist() == expected.tolist()
    assert repeats.firsts.tolist() == [int(np.flatnonzero(series == series[row])[0]) for row in expected]


def test_missing_share():
    frame = with_cells(income=dict.fromkeys(range(30)))
    (finding,) = found(look(frame, columns={"income": {"max_null_share": 0.1}}), "null_share")
    assert (finding.severity, finding.count, finding.share) == ("error", 30, 0.15)
    assert found(look(frame, columns={"income": {"max_null_share": 0.15}}), "null_share") == []


@pytest.mark.parametrize(
    ("checks", "history", "wrong"),
    [
        ({"min_rows": N + 1}, (), True),
        ({"min_rows": N}, (), False),
        ({"max_rows": N - 1}, (), True),
        ({"max_rows": N}, (), False),
        ({"row_count_factor": 2}, (1_000, 900, 20), True),
        ({"row_count_factor": 2}, (50,), True),
        ({"row_count_factor": 2}, (150, 390), False),
        ({"row_count_factor": 2}, (), False),
    ],
)
def test_row_counts(checks, history, wrong):
    examined = look(FRAME, DatasetHistory(history), checks=checks)
    assert bool(found(examined, "row_count")) is wrong
    assert examined.accepted is not wrong


@pytest.mark.parametrize(("days", "wrong"), [(20, True), (60, False)])
def test_freshness(days, wrong):
    checks = {"freshness_column": "end", "max_age_days": days}
    assert bool(found(look(FRAME, DatasetHistory(now=NOW), checks=checks), "freshness")) is wrong


@pytest.mark.parametrize("column", ["plan", "nothing"])
def test_freshness_needs_a_date(column):
    assert found(look(FRAME, checks={"freshness_column": column}), "freshness")[0].severity == "error"


def test_freshness_needs_a_value():
    frame = FRAME.assign(end=None)
    examined = look(frame, columns={"end": {"type": "datetime"}}, checks={"freshness_column": "end"})
    assert "every value of the freshness column" in found(examined, "freshness")[0].message


def test_duplicate_rows():
    frame = pd.concat([FRAME, FRAME.iloc[:20]])
    (finding,) = found(look(frame, checks={"max_duplicate_share": 0.05}), "duplicate_rows")
    assert (finding.count, finding.rows[0][0]) == (20, N + 2)
    assert found(look(frame, checks={"max_duplicate_share": 0.1}), "duplicate_rows") == []


def test_label_shares():
    before = look(FRAME).profile
    frame = with_cells(label=dict.fromkeys(range(100), 1))
    checks = {"label_share_tolerance": 0.1}
    assert len(found(look(frame, DatasetHistory(profile=before), checks=checks), "label_share")) == 2
    assert found(look(FRAME, DatasetHistory(profile=before), checks=checks), "label_share") == []


def test_expressions_over_columns_set_rows_aside():
    frame = with_cells(end={3: "2023-01-01", 4: None})
    checks = {"expressions": [{"name": "order", "expression": "start <= end and age > 0"}]}
    examined = look(frame, checks=checks)
    assert [row.line for row in examined.quarantined] == [5]
    (finding,) = found(examined, "expression")
    assert finding.count == 1
    assert "end=2023-01-01" in finding.rows[0][1]


def test_rows_that_do_not_meet_an_expression_of_severity_warning_stay():
    checks = {"expressions": [{"name": "adult", "expression": "age >= 18", "severity": "warning"}]}
    examined = look(with_cells(age={3: 5}), checks=checks)
    assert examined.accepted
    assert not examined.quarantined
    assert found(examined, "expression")[0].count == 1


@pytest.mark.parametrize("expression", ["nothing > 1", "plan > 1", "age", "not plan", "label > '2024-01-01'"])
def test_expressions_that_cannot_be_computed_are_told(expression):
    examined = look(FRAME, checks={"expressions": [{"name": "odd", "expression": expression}]})
    assert found(examined, "expression")[0].severity == "error"


@pytest.mark.parametrize(
    ("expression", "failing"),
    [
        ("a < b", [False, True, None]),
        ("not a < b", [True, False, None]),
        ("a < b or b == 0", [False, False, None]),
        ("1 <= a <= 2", [False, True, False]),
        ("a * 2 - 1 >= b / 1", [True, False, None]),
        ("column('a b') == 'x'", [False, True, False]),
        ("-a < 0", [False, False, False]),
        ("day >= '2024-01-02'", [True, False, False]),
        ("a > 5 or b > 5", [True, True, None]),
        ("a > 0 or b > 5", [False, False, False]),
    ],
)
def test_expressions(expression, failing):
    columns = {
        "a": pa.array([1.0, 3.0, 2.0]),
        "b": pa.array([2.0, 0.0, None]),
        "a b": pa.array(["x", "y", "x"]).dictionary_encode(),
        "day": pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)], pa.timestamp("us", "UTC")),
    }
    assert unmet_rows(parse_expression(expression), columns).to_pylist() == failing


NO_EXPRESSIONS = """a if b else c|[a]|a ** b == 1|f(a) > 1|lambda: 1|a == 1j||age +|a.real > 1|1 == 2|True
a > 1e309|True and 1 < 2
a + 'x' > 1|a > -'x'|a < 1 < 'x'|not 5 and a|a == 1 and 5|column('a' + 'b') == 1|a == '\\ud800'"""


@pytest.mark.parametrize(
    "text",
    [
        *NO_EXPRESSIONS.replace("\n", "|").split("|"),
        "(" * 500,
        f"a > {10**400}",
        f"a{' + a' * 60} > 1",
        "a == '\ud800'",
    ],
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_expression(text)


def test_leakage():
    frame = FRAME.assign(refund=FRAME["label"] * 3.5 + 1, closed=np.where(FRAME["label"] == 1, "yes", "no"))
    assert {finding.column for finding in found(look(frame), "leakage")} == {"refund", "closed"}
    assert found(look(frame.sort_values("refund").assign(refund=1, closed=1)), "leakage") == []


def test_an_identifier_that_follows_the_target_is_a_leak():
    frame = FRAME.sort_values("label").assign(customer_id=range(N))
    assert [finding.column for finding in found(look(frame), "leakage")] == ["customer_id"]


def test_shift():
    before = look(FRAME).profile
    frame = FRAME.assign(age=FRAME["age"] + 40, plan="pro")
    shifted = {finding.column for finding in found(look(frame, DatasetHistory(profile=before)), "shift")}
    assert "age" in shifted
    assert "income" not in shifted
    assert found(look(FRAME.sample(frac=0.9, random_state=1), DatasetHistory(profile=before)), "shift") == []


def test_shift_of_words_and_of_missing_values():
    before = look(FRAME).profile
    frame = FRAME.assign(
        plan=np.where(np.arange(N) % 10 > 0, "pro", "plus"), income=FRAME["income"].where(FRAME.index > 90)
    )
    assert {finding.column for finding in found(look(frame, DatasetHistory(profile=before)), "shift")} == {
        "plan",
        "income",
    }


def test_skew_of_what_was_captured():
    trained, captured = look(FRAME).profile, look(FRAME.assign(age=FRAME["age"] + 40)).profile
    assert [finding.column for finding in find_skew(DatasetHistory(captured=captured), trained, 0.25)] == ["age"]
    assert list(find_skew(DatasetHistory(captured=trained), trained, 0.25)) == []


def test_bias():
    gender = np.where(np.arange(N) < 2, "x", FRAME["gender"])
    label = np.where(gender == "f", (np.arange(N) % 10 == 0).astype(int), FRAME["label"])
    examined = look(
        FRAME.assign(gender=gender, label=label), sensitive_groups=["gender"], checks={"min_group_share": 0.02}
    )
    assert "'x' (2 rows)" in found(examined, "representation")[0].message
    assert "'f'" in found(examined, "label_rate")[0].message
    even = look(FRAME.assign(label=(np.arange(N) // 2) % 2), sensitive_groups=["gender"])
    assert found(even, "label_rate") == found(even, "representation") == []
    assert found(look(FRAME, sensitive_groups=["nothing"]), "bias")[0].severity == "error"
