"""Values mean what the file says: inputs that other tools were reported to read wrongly, and more of their kinds."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from millrace.captures.feedback import outcome_reader
from millrace.data.dataset_checks import DatasetHistory
from millrace.data.prepare import prepare
from millrace.data.reference import describe_column
from millrace.data.validation import ValidationResult, validate_upload
from millrace.schema import NULL_MARKS, NULL_STRINGS, Column, TableSchema
from millrace.serving.rows import read_numeric_text, value_reader
from millrace.spec import ModelSpec
from millrace_cli.table_file import read_format, read_rows

FAULTS = Path(__file__).resolve().parents[2] / "samples" / "faults"


def read(name: str, schema=None, **spec: object) -> ValidationResult:
    """Validate a sample, by its folder's spec."""
    path = FAULTS / name
    stated = path.parent / "spec.yaml"
    document = {**(yaml.safe_load(stated.read_text()) if stated.exists() else {}), **spec}
    return validate_upload(path, path.name, ModelSpec.parse(document), {}, schema)


def column_of(values: list[str], name: str = "v", **spec: object) -> ValidationResult:
    """Validate a table with these values in one column."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([name, "x", "label"])
    writer.writerows([value, row * 0.37 % 1, row % 2] for row, value in enumerate(values))
    return validate_upload(buffer.getvalue().encode(), "t.csv", ModelSpec.parse(spec), {}, None)


def messages(found: ValidationResult, check: str) -> list[str]:
    return [finding.message for finding in found.findings if finding.check == check]


# -- rows without any value --------------------------------------------------------------------------------------------
def test_an_empty_row_at_the_end_is_set_aside():
    found = read("all-empty-row/excel.csv")
    assert found.accepted
    assert (len(found.table), [row.line for row in found.quarantined]) == (60, [62])


@pytest.mark.parametrize("row", [",,", "NA,NA,NA", " , , ", '"","",""'])
@pytest.mark.parametrize("place", [0, 40, 80])
def test_an_empty_row_may_stand_anywhere(row, place):
    rows = [f"{number},{number % 7},{number % 2}" for number in range(80)]
    body = "\n".join(["x,a,label", *rows[:place], row, *rows[place:]]).encode()
    found = validate_upload(body, "t.csv", ModelSpec(), {}, None)
    assert (found.accepted, len(found.table), [aside.text for aside in found.quarantined]) == (True, 80, [""])


def test_an_empty_object_is_set_aside():
    body = "\n".join(['{"x": %d, "label": %d}' % (row, row % 2) for row in range(60)] + ["{}"]).encode()  # noqa: UP031 - braces are JSON's
    found = validate_upload(body, "t.jsonl", ModelSpec(), {}, None)
    assert (found.accepted, len(found.table)) == (True, 60)


# -- missing values ----------------------------------------------------------------------------------------------------
def test_a_class_called_none_is_reported_with_its_remedy():
    found = read("class-called-none/severity.csv", target="severity")
    (message,) = messages(found, "null_values")
    assert "49 values of 'severity', 'None', were read as missing" in message
    found = read("class-called-none/severity.csv", target="severity", read={"null_values": [""]})
    assert found.schema.classes == ("Mild", "None", "Severe")
    assert not messages(found, "null_values")


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan"])
def test_a_category_like_a_missing_value_is_reported(word):
    values = ["EU", word, "APAC", "EU"] * 20
    assert f"20 values of 'v', '{word}'" in messages(column_of(values), "null_values")[0]
    settled = column_of(values, read={"null_values": [""]})
    assert word in settled.schema.column("v").categories


@pytest.mark.parametrize("name", ["excel_na", "question_mark"])
def test_marks_of_missing_numbers_are_missing(name):
    found = read(f"nearly-numbers-left-out/{name}.csv")
    column = found.schema.column("hp")
    assert (column.type, column.role, column.nullable) == ("number", "feature", True)
    assert not found.quarantined


@pytest.mark.parametrize("mark", sorted(NULL_MARKS | NULL_STRINGS - {""}))
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1.5", "2", "3.25", "7"], "number"),
        (["2024-01-31", "2024-02-29", "2023-12-01", "2020-01-01"], "datetime"),
        (["yes", "no", "no", "yes"], "boolean"),
    ],
)
def test_every_mark_is_missing_where_no_strings_are_expected(mark, values, kind):
    found = column_of([*values, mark] * 20)
    column = found.schema.column("v")
    assert (column.type, column.nullable) == (kind, True)
    assert not found.quarantined
    assert int(pd.isna(found.table.columns["v"]).sum()) == 20
    if kind != "number":  # a request in JSON has numbers as numbers
        missing = value_reader(column)(mark)
        assert missing is None or np.isnan(missing)


def test_marks_among_categories_are_a_doubt():
    found = column_of(["a", "b", "?", "a"] * 20)
    assert "'?', were read as categories" in messages(found, "missing_marks")[0]
    settled = column_of(["a", "b", "?", "a"] * 20, read={"null_values": ["", "?"]})
    assert settled.schema.column("v").categories == ("a", "b")


def test_stated_missing_values_hold_in_training_and_in_requests():
    found = read("null-words-not-in-serving/train.csv")
    region, score = found.schema.column("region"), found.schema.column("score")
    assert "NA" in region.categories
    assert value_reader(region)("NA") == "NA"
    assert value_reader(region)("?") == ""
    assert "?" in score.missing_strings
    assert "NA" not in score.missing_strings


def test_a_string_in_parquet_is_a_value():
    frame = pd.DataFrame({"v": ["NA", "EU", "None", None] * 20, "x": np.arange(80.0), "label": [0, 1] * 40})
    buffer = io.BytesIO()
    frame.iloc[::-1].to_parquet(buffer)  # its index is a column of the file
    found = validate_upload(buffer.getvalue(), "t.parquet", ModelSpec(), {}, None)
    assert [column.name for column in found.schema.columns] == ["v", "x", "label"]
    assert found.schema.column("v").categories == ("EU", "NA", "None")


@pytest.mark.parametrize(
    "values",
    [
        [str(row * 7 % 50) for row in range(160)],
        ["a", "b"] * 80,
        ["yes", "no"] * 80,
        ["2024-01-31", "2024-02-01"] * 80,
        [f"${row * 1_500.5:,.2f}" for row in range(160)],
        [f"a remark of {row % 13} tokens {row % 7}" for row in range(160)],
    ],
)
def test_a_column_that_became_empty_is_reported(values):
    first = column_of(values, columns={"v": {"nullable": True}})
    history = DatasetHistory([160], first.profile, datetime.now(UTC), None)
    body = "\n".join(["v,x,label", *(f",{row * 0.37 % 1},{row % 2}" for row in range(160))]).encode()
    found = validate_upload(body, "t.csv", ModelSpec(), {}, first.schema, history=history)
    assert "every value of 'v' is missing, and the dataset before has values" in messages(found, "empty_column")[0]


# -- the file ----------------------------------------------------------------------------------------------------------
def text_of(*lines: str, rows: int = 60) -> bytes:
    """Return a file of these lines, the last one a template for each row."""
    return "\n".join([*lines[:-1], *(lines[-1].format(row, row % 2) for row in range(rows))]).encode()


@pytest.mark.parametrize("mark", [";", "|", "\t", ","])
def test_a_line_that_says_the_delimiter_is_no_header(mark):
    body = text_of(f"sep={mark}", mark.join(["x", "a", "label"]), mark.join(["{0}", "w", "{1}"]))
    for text in (body, b"\xef\xbb\xbf" + body.replace(b"\n", b"\r\n"), body.decode().encode("utf-16")):
        found = validate_upload(text, "t.csv", ModelSpec(), {}, None)
        assert [column.name for column in found.schema.columns] == ["x", "a", "label"]
        assert (found.accepted, len(found.table)) == (True, 60)
    bad = validate_upload(body + f"\nmany{mark}w".encode(), "t.csv", ModelSpec(), {}, None)
    assert [row.line for row in bad.quarantined] == [63]


def test_a_delimiter_at_the_end_of_every_line_makes_no_column_to_name():
    found = validate_upload(text_of("x,label,", "{0},{1},"), "t.csv", ModelSpec(), {}, None)
    assert found.accepted
    assert (found.schema.columns[2].role, found.schema.columns[2].reason) == ("ignored", "every value is missing")
    found = validate_upload(text_of("x,label,", "{0},{1},7"), "t.csv", ModelSpec(), {}, None)
    assert "column 3 has no name" in found.reasons[0]


@pytest.mark.parametrize("body", [b'[{"x": 1, "label": 0}]', b'[\n  {"x": 1,\n "label": 0}]', b" [ ", b"[]"])
def test_a_json_array_is_named_with_its_remedy(body):
    assert (
        "one JSON array: write one object a line" in validate_upload(body, "t.json", ModelSpec(), {}, None).reasons[0]
    )


def test_quotes_after_a_blank_are_reported():
    found = validate_upload(
        "\n".join(["x, city, label", *(f'{row}, "{"RB"[row % 2]}", {row % 3 % 2}' for row in range(60))]).encode(),
        "t.csv",
        ModelSpec(),
        {},
        None,
    )
    assert "keep their quotes" in messages(found, "quotes")[0]


# -- numbers -----------------------------------------------------------------------------------------------------------
def test_points_between_thousands_are_a_doubt():
    found = read("point-groups-thousands/umsatz.csv")
    assert found.schema.column("umsatz").role == "ignored"
    (message,) = messages(found, "ambiguous_numbers")
    assert "read: {decimal: '.'} or {thousands: '.'}" in message
    settled = read("point-groups-thousands/umsatz.csv", columns={"x": {"role": "ignored"}}, read={"thousands": "."})
    assert settled.table.columns["umsatz"].max() > 1_000
    settled = read("point-groups-thousands/umsatz.csv", read={"decimal": "."})
    assert settled.table.columns["umsatz"].min() < 10


@pytest.mark.parametrize(
    ("values", "doubtful"),
    [
        (["991", "1.115", "12.250", "7"], True),
        (["-991", "+1.115", "12.250", "0"], True),
        (["1.115", "2.225", "3.335", "4.445"], False),  # every value has three decimals
        (["1.5", "1.115", "2", "3"], False),
        (["0.115", "1", "2", "3"], False),
        (["1.115", "1234", "2", "3"], False),
    ],
)
def test_only_groups_that_cannot_be_told_from_fractions_are_a_doubt(values, doubtful):
    found = column_of(values * 15)
    assert (found.schema.column("v").role == "ignored") is doubtful
    assert bool(messages(found, "ambiguous_numbers")) is doubtful


def grouped(mark: str, decimal: str) -> Callable[[float], str]:
    """Return the function that writes a number with these marks."""
    return lambda value: f"{value:,.2f}".replace(",", "\0").replace(".", decimal).replace("\0", mark)


NOTATIONS: dict[str, Callable[[float], str]] = {
    "dollars": "${:,.2f}".format,
    "negative dollars": lambda value: f"-${value:,.2f}",
    "euros": "€ {:.2f}".format,
    "euros after it, German": lambda value: grouped(".", ",")(value) + " €",
    "a currency's code": "{:,.2f} EUR".format,
    "per cent": "{:.1f} %".format,
    "per cent without a blank": "{:.1f}%".format,
    "kilograms": "{:.0f} kg".format,
    "degrees": "{:.1f}°C".format,
    "metres": "{:.0f} m".format,
    "a mathematician's minus": "\N{MINUS SIGN}{:.2f}".format,
    "parentheses": "({:,.2f})".format,
    "a sign behind": lambda value: grouped(".", ",")(value) + "-",
    "French": grouped("\N{NARROW NO-BREAK SPACE}", ","),
    "Swedish": lambda value: grouped("\N{NO-BREAK SPACE}", ",")(value) + " kr",
    "Swiss": lambda value: "CHF " + grouped("'", ".")(value),
    "Swiss, typeset": grouped("\N{RIGHT SINGLE QUOTATION MARK}", "."),
    "German": grouped(".", ","),
    "Python": grouped("_", "."),
    "Indian": lambda value: f"₹ {value // 1000:,}".replace(",", "") + f",{value % 1000:03d}.50",
    "Indian, of millions": lambda value: f"{value % 90 + 1},{value % 100:02d},{value % 1000:03d}.25",
}


@pytest.mark.parametrize("name", NOTATIONS)
def test_numbers_with_signs_units_and_groups_are_read_alike_everywhere(name):
    amounts = [value * 1337 + 1001 for value in range(60)]
    written = [NOTATIONS[name](amount) for amount in amounts]
    found = column_of(written)
    column, values = found.schema.column("v"), found.table.columns["v"].tolist()
    assert column.type in ("integer", "number")
    assert not found.quarantined
    if "Indian" not in name:
        sign = -1 if any(word in name for word in ("negative", "minus", "parentheses", "behind")) else 1
        assert values == [sign * amount for amount in amounts]
    if name == "a mathematician's minus":
        assert column.notation is None  # it can mean nothing else
    elif name not in ("German", "Indian, of millions"):  # the notation of a whole file is one finding on it
        assert "{v: {type: category}}" in messages(found, "number_style")[0]
    assert Column.from_dict(json.loads(json.dumps(column.to_dict()))) == column
    # A later upload, JSON Lines, a request and ground truth have the same numbers.
    rows = [(text, row * 0.37 % 1, row % 2) for row, text in enumerate(written)]
    delimited = "\n".join("|".join(map(str, row)) for row in [("v", "x", "label"), *rows])
    objects = "\n".join(json.dumps(dict(zip(("v", "x", "label"), row, strict=True))) for row in rows)
    for body, file in ((delimited, "t.csv"), (objects, "t.jsonl")):
        later = validate_upload(body.encode(), file, ModelSpec(), {}, found.schema)
        assert not later.quarantined
        assert later.table.columns["v"].tolist() == values
    assert [read_numeric_text(text, column) for text in written] == values
    read_outcome = outcome_reader(TableSchema((replace(column, role="target"),), "regression"))
    assert [read_outcome(text) for text in written] == values


def test_plain_numbers_stay_plain_for_a_column_of_another_notation():
    german = column_of([grouped(".", ",")(value * 37.5 + 101) for value in range(80)]).schema
    rows = [(value * 1.25 + 1.125, value * 0.37 % 1, value % 2) for value in range(80)]
    frame = pd.DataFrame(rows, columns=["v", "x", "label"])
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    lines = "\n".join(json.dumps(row) for row in frame.to_dict("records"))
    for body, name in (
        (buffer.getvalue(), "t.parquet"),
        (lines.encode(), "t.jsonl"),
        (frame.to_csv(index=False).encode(), "t.csv"),
    ):
        later = validate_upload(body, name, ModelSpec(), {}, german)
        assert later.table.columns["v"].tolist() == frame["v"].tolist()
    # Where neither the file nor the value says otherwise, the column's notation holds.
    ambiguous = "v;label\n" + "".join(f"1.{row:03d};{row % 2}\n" for row in range(80))
    spec = ModelSpec.parse({"columns": {"x": {"nullable": True}}})
    assert validate_upload(ambiguous.encode(), "t.csv", spec, {}, german).table.columns["v"].min() == 1_000


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (["$1,234", "$567", "$12,345", "$7"], "read: {thousands: ','}"),
        (["1.115 €", "991 €", "12.250 €"], "{thousands: '.'}"),
        (["1.5 kg", "3 lb", "7 kg"], "in several units, 'kg', 'lb'"),
        (["1.5 widgets", "2 widgets", "7 widgets"], 'columns: {v: {unit: "widgets"}}'),
        (["12A", "14A", "3A"], 'columns: {v: {unit: "A"}}'),
        (["1.5 kg", "2.5", "7"], 'columns: {v: {unit: "kg"}}'),
    ],
)
def test_uncertain_numbers_are_left_with_the_line_that_decides(values, remedy):
    found = column_of(values * 20)
    assert found.schema.column("v").type not in ("integer", "number")
    assert remedy in messages(found, "nearly_numbers")[0]


@pytest.mark.parametrize(
    ("values", "spec", "expected"),
    [
        (["$1,234", "$567"], {"read": {"thousands": ","}}, [1234.0, 567.0]),
        (["1.115 €", "991 €"], {"read": {"thousands": "."}}, [1115.0, 991.0]),
        (["1.115 €", "991 €"], {"read": {"decimal": "."}}, [1.115, 991.0]),
        (["1.5 widgets", "2"], {"columns": {"v": {"unit": "widgets"}}}, [1.5, 2.0]),
    ],
)
def test_the_line_decides(values, spec, expected):
    found = column_of(values * 40, **spec)
    assert found.table.columns["v"][:2].tolist() == expected
    assert not messages(found, "nearly_numbers")


def test_codes_and_other_strings_are_no_numbers():
    for values in (
        ["A1", "A38"],
        ["030 100", "030 819"],
        ["0-5", "6-9"],
        ["1:00", "2:30"],
        ["007 kg", "008 kg"],
        ["12/5", "3/7"],
    ):
        assert column_of(values * 40).schema.column("v").type == "category"


def test_numbers_among_few_other_strings_are_reported():
    found = column_of([str(value * 1.25) if value % 5 else "unknown" for value in range(80)])
    assert "80% of 'v' are numbers, others are 'unknown'" in messages(found, "nearly_numbers")[0]
    settled = column_of(
        [str(value * 1.25) if value % 5 else "unknown" for value in range(80)], read={"null_values": ["", "unknown"]}
    )
    assert settled.schema.column("v").type == "number"


def test_codes_with_an_e_are_codes():
    found = read("codes-with-an-e/sku.csv")
    assert found.schema.column("sku").type == "category"
    assert "columns: {sku: {type: number}}" in messages(found, "codes")[0]
    assert read("codes-with-an-e/sku.csv", columns={"sku": {"type": "number"}}).accepted
    printed = column_of([repr(10.0**value) for value in range(-20, 38)] * 2)
    assert printed.schema.column("v").type == "number"
    assert not messages(printed, "codes")


def test_values_that_become_one_in_float32_are_reported():
    found = read("float32-loses-it/codes_of_9_digits.csv")
    (message,) = messages(found, "float32")
    assert "8 values of 'zip9' become 1" in message
    settled = read("float32-loses-it/codes_of_9_digits.csv", columns={"zip9": {"type": "category"}})
    assert len(settled.schema.column("zip9").categories) == 8
    assert not messages(column_of([str(value * 1_000_000) for value in range(80)]), "float32")


@pytest.mark.parametrize("later", ["june", "june_same_ids"])
def test_ids_that_a_writer_made_fractions_are_the_same_ids(later):
    first = read("ids-written-as-floats/may.csv")
    second = read(f"ids-written-as-floats/{later}.csv", first.schema)
    spec = ModelSpec.parse(yaml.safe_load((FAULTS / "ids-written-as-floats/spec.yaml").read_text()))
    prepared = prepare(first.schema, [first.table, second.table], spec)
    assert sum(len(split) for split in prepared.splits.values()) == 100


@pytest.mark.parametrize("kinds", [("int64", "float64"), ("float64", "int64")])
def test_ids_in_parquet_are_the_same_ids(kinds):
    schema, tables = None, []
    for kind in kinds:
        frame = pd.DataFrame({"user_id": np.arange(80).astype(kind), "x": np.arange(80) % 7, "label": [0, 1] * 40})
        buffer = io.BytesIO()
        frame.to_parquet(buffer)
        found = validate_upload(buffer.getvalue(), "t.parquet", ModelSpec(), {}, schema)
        schema = schema or found.schema
        tables.append(found.table.columns["user_id"].tolist())
    assert tables[0] == tables[1]


# -- dates -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["iso", "us_am_pm", "utc_suffix"])
def test_dates_are_dates(name):
    found = read(f"dates-read-as-words/{name}.csv")
    assert found.schema.column("called_at").type == "datetime"
    expected = read("dates-read-as-words/iso.csv").table.columns["called_at"]
    np.testing.assert_array_equal(found.table.columns["called_at"], expected)


FORMS = """%Y-%m-%d %H:%M:%S UTC|%Y-%m-%dT%H:%M:%SZ|%Y-%m-%d %H:%M:%S+00|%Y-%m-%d %I:%M:%S %p|%d.%m.%y %H:%M:%S
%d-%b-%y %H:%M:%S|%b %d %Y %H:%M:%S|%B %d, %Y %I:%M:%S %p|%a, %d %b %Y %H:%M:%S +0000|%a, %d %b %Y %H:%M:%S GMT
%a %b %d %H:%M:%S %Y|%d/%b/%Y:%H:%M:%S +0000|%Y/%m/%d %I:%M:%S %p|%Y-%m-%d %H:%M:%S.%f UTC"""


@pytest.mark.parametrize("form", FORMS.replace("\n", "|").split("|"))
def test_common_forms_of_dates_are_read_alike_in_training_and_requests(form):
    times = pd.Timestamp("2023-01-17T08:09:10") + pd.to_timedelta(np.arange(80) * 7_919 * 61, "s")
    found = column_of([time.strftime(form) for time in times])
    column = found.schema.column("v")
    assert column.type == "datetime"
    np.testing.assert_array_equal(found.table.columns["v"], times.to_numpy().astype("datetime64[us]"))
    assert value_reader(column)(times[3].strftime(form)) == times[3].to_pydatetime()


@pytest.mark.parametrize("form", ["%d. %b. %Y um %H Uhr", "%Y.%m.%d. %H.%M", "%d %m %Y klo %H"])
def test_dates_of_another_form_are_reported(form):
    times = pd.Timestamp("2023-01-17") + pd.to_timedelta(np.arange(80) * 7, "D")
    found = column_of([time.strftime(form) for time in times])
    assert "formats: [" in messages(found, "unread_dates")[0]


# -- the target --------------------------------------------------------------------------------------------------------
def test_whole_numbers_as_classes_or_as_a_number_are_a_choice():
    body = "\n".join(["x,label", *(f"{row},{row % 5}" for row in range(100))]).encode()
    found = validate_upload(body, "t.csv", ModelSpec(), {}, None)
    assert found.schema.task == "multiclass"
    assert "set task: regression" in messages(found, "task")[0]
    assert not messages(validate_upload(body, "t.csv", ModelSpec(task="regression"), {}, None), "task")
    body = "\n".join(["x,label", *(f"{row},{row % 25}" for row in range(100))]).encode()
    found = validate_upload(body, "t.csv", ModelSpec(), {}, None)
    assert found.schema.task == "regression"
    assert "set task: multiclass" in messages(found, "task")[0]


# -- numbers that go on ------------------------------------------------------------------------------------------------
def table_of(**columns: object) -> ValidationResult:
    """Validate a table of 120 rows with these columns, and some that do not matter."""
    frame = pd.DataFrame({**columns, "x": np.arange(120) * 7 % 11, "label": np.arange(120) // 3 % 2})
    return validate_upload(frame.to_csv(index=False).encode(), "t.csv", ModelSpec(), {}, None)


DAYS = pd.date_range("2024-11-01", periods=120).astype(str)
SHUFFLED = np.random.default_rng(1).permutation(120)


@pytest.mark.parametrize(
    ("name", "values", "days", "ascends"),
    [
        ("year", DAYS.str[:4], None, True),
        ("yr", (np.arange(120) > 60).astype(int), DAYS, True),
        ("year", DAYS.str[:4][SHUFFLED], DAYS[SHUFFLED], True),
        ("season_no", np.arange(120)[SHUFFLED] // 10, DAYS[SHUFFLED], True),
        ("instant", np.arange(120) * 1_000, None, True),
        ("odometer", np.arange(120)[SHUFFLED] * 900 + 17, DAYS[SHUFFLED], True),
        ("model_year", 2000 + np.arange(120) % 20, DAYS, False),
        ("year", 2000 + SHUFFLED % 20, None, False),  # years of manufacture: later cars are of all years
        ("age", np.sort(SHUFFLED % 60), None, False),  # the file is sorted by it
        ("month", pd.DatetimeIndex(DAYS).month, DAYS, False),
        ("flag", (np.arange(120) > 60).astype(int), DAYS, False),
        ("amount", np.arange(120) * 1.5, DAYS, False),
    ],
)
def test_years_and_counters_are_known_to_go_on(name, values, days, ascends):
    found = table_of(**({} if days is None else {"day": days}), **{name: values})
    column = found.schema.column(name)
    assert (column.role, column.ascends) == ("feature", ascends)
    assert Column.from_dict(json.loads(json.dumps(column.to_dict()))) == column
    reference = describe_column(column, found.table.columns[name])
    bins = reference.make_bins(column)
    assert (bins.goes_on, bins.maximum == np.inf) == (ascends, ascends)


def test_dates_and_counters_that_go_on_are_no_shift_between_uploads():
    first = table_of(day=DAYS, odometer=np.arange(120)[SHUFFLED] * 900, speed=SHUFFLED % 60)
    history = DatasetHistory([120], first.profile, datetime.now(UTC), None)
    later = {"day": pd.date_range("2025-03-01", periods=120), "odometer": 200_000 + SHUFFLED, "speed": SHUFFLED % 60}
    frame = pd.DataFrame({**later, "x": np.arange(120) * 7 % 11, "label": np.arange(120) // 3 % 2})
    body = frame.to_csv(index=False).encode()
    spec = ModelSpec.parse({"columns": {"odometer": {"role": "feature"}}})
    schema = replace(
        first.schema, columns=tuple(replace(one, ascends=one.name == "odometer") for one in first.schema.columns)
    )
    found = validate_upload(body, "t.csv", spec, {}, schema, history=history)
    assert not messages(found, "shift")
    flat = tuple(replace(one, ascends=False) for one in first.schema.columns)
    found = validate_upload(body, "t.csv", spec, {}, replace(schema, columns=flat), history=history)
    assert "'odometer' shifted" in messages(found, "shift")[0]


def test_row_numbers_that_begin_anew_are_row_numbers(tmp_path):
    def files(name: str, *columns: np.ndarray) -> list[tuple[str, Path]]:
        paths = []
        for place, values in enumerate(columns):
            frame = pd.DataFrame({name: values, "x": values * 7 % 11 + place, "label": values // 3 % 2})
            frame.to_csv(tmp_path / f"{place}.csv", index=False)
            paths.append((f"{place}.csv", tmp_path / f"{place}.csv"))
        return paths

    def read_folder(*args) -> ValidationResult:
        return validate_upload(files(*args), "folder", ModelSpec(), {}, None)

    for name, sizes in (("index", (60, 50)), ("rownum", (30, 90, 25)), ("instant", (500, 450))):
        found = read_folder(name, *(np.arange(1, size + 1) for size in sizes))
        assert (found.schema.column(name).role, len(messages(found, "row_number"))) == ("ignored", 1), name
    # So do those of tables that were put together, and a few quarantined rows change nothing.
    together = np.concatenate([np.arange(500), np.arange(450)])
    assert read_folder("instant", together).schema.column("instant").role == "ignored"
    assert (
        read_folder("instant", together[3:], np.delete(np.arange(430), [7, 9])).schema.column("instant").role
        == "ignored"
    )
    # Short ones in each file may mean something, and cycles do.
    found = read_folder("visit", np.arange(1, 41), np.arange(1, 31))
    assert (found.schema.column("visit").role, len(messages(found, "row_number"))) == ("feature", 1)
    for name, values in (
        ("hr", np.tile(np.arange(24), 20)),
        ("day_of_year", np.tile(np.arange(1, 366), 2)),
        ("week", np.tile(np.arange(52), 4)),
    ):
        found = read_folder(name, values)
        assert (found.schema.column(name).role, messages(found, "row_number")) == ("feature", [])


# -- more members of the same kinds ------------------------------------------------------------------------------------
MORE_FORMS = """%a, %d %b %Y %H:%M +0000|%Y%m%dT%H%M%S|%Y%m%dT%H%M%SZ|%m/%d/%Y %I:%M:%S%p|%d.%m.%Y, %H:%M:%S
%m/%d/%Y, %I:%M:%S %p|%b. %d, %Y %H:%M:%S|%A, %B %d, %Y %H:%M:%S|%a %d %b %Y %H:%M:%S|%Y-%m-%d %H:%M:%S,000000
%y/%m/%d %H:%M:%S|%Y.%m.%d %H:%M:%S"""


@pytest.mark.parametrize("form", MORE_FORMS.replace("\n", "|").split("|"))
def test_more_forms_of_dates_are_read_alike_in_training_and_requests(form):
    times = pd.Timestamp("2023-01-17T08:09:00") + pd.to_timedelta(np.arange(80) * 131 * 60, "m")
    found = column_of([time.strftime(form) for time in times])
    column = found.schema.column("v")
    assert column.type == "datetime"
    np.testing.assert_array_equal(found.table.columns["v"], times.to_numpy().astype("datetime64[us]"))
    assert value_reader(column)(times[3].strftime(form)) == times[3].to_pydatetime()


def test_years_of_two_digits_are_read_where_one_reading_is_likely():
    days = pd.date_range("2023-01-17", periods=80, freq="5D")
    for form in ("%d-%m-%y", "%y-%m-%d", "%d/%m/%y", "%y/%m/%d", "%m/%d/%y", "%y.%m.%d"):
        assert column_of([day.strftime(form) for day in days]).schema.column("v").formats == (form,)
    decades = pd.to_datetime(
        [f"20{year:02d}-{month:02d}-{year:02d}" for year in range(1, 29) for month in range(10, 13)]
    )
    found = column_of([day.strftime("%y-%m-%d") for day in decades])
    assert found.schema.column("v").type == "datetime"  # every reading is the same
    found = column_of([f"{1 + row % 28:02d}-{10 + row % 3}-{1 + row * 5 % 28:02d}" for row in range(84)])
    assert messages(found, "ambiguous_dates")


@pytest.mark.parametrize(
    ("form", "remedy"),
    [
        ("%B %d, %Y at %I:%M %p", "formats: ['%B %d, %Y at %I:%M %p']"),
        ("%d.%m.%Y %H.%M", "formats: ['%d.%m.%Y %H.%M']"),
        ("%H:%M:%S", "formats: ['%H:%M:%S']"),
        ("%Y%m%d", "formats: ['%Y%m%d']"),
        ("%Y%m%d%H%M%S", "formats: ['%Y%m%d%H%M%S']"),
        ("%Y-%m-%d %H:%M:%S EST", "'EST'"),
        ("%Y-%m-%d %H:%M:%S Europe/Berlin", "'Europe/Berlin'"),
        ("%a %b %d %H:%M:%S CEST %Y", "'CEST'"),
        ("%Y-W%V", "write the first day of each"),
        ("%d. Januar %Y", "formats: ['%d. Januar %Y']"),
        ("%B %dth, %Y", "with ordinal numbers: write them as YYYY-MM-DD"),
    ],
)
def test_other_dates_are_a_doubt_whose_line_works(form, remedy):
    days = pd.Timestamp("2023-01-17T08:09:10") + pd.to_timedelta(np.arange(80) * 7_919, "m")
    values = [day.strftime(form) for day in days]
    (message,) = messages(column_of(values), "unread_dates")
    assert remedy in message
    if "formats" in remedy:
        settled = column_of(values, columns=yaml.safe_load(message[message.index("{v: ") :]))
        assert (settled.schema.column("v").type, settled.accepted) == ("datetime", True)


@pytest.mark.parametrize(
    "months",
    [
        "Januar März Mai",
        "janv. févr. août",
        "enero marzo mayo",
        "января марта мая",
        "gennaio marzo maggio",
        "ocak mart haziran",
    ],
)
def test_months_of_other_languages_are_named(months):
    names = months.split()
    found = column_of([f"{1 + row % 28} {names[row % 3]} {2020 + row % 4}" for row in range(84)])
    assert "in words that are not English: write them as YYYY-MM-DD" in messages(found, "unread_dates")[0]
    found = column_of([f"{2020 + row % 4}年{1 + row % 12}月{1 + row % 28}日" for row in range(84)])
    assert "in words that are not English" in messages(found, "unread_dates")[0]


@pytest.mark.parametrize(
    "values", [["10.0.0.1", "10.0.0.2"], ["1.12.3", "2.0.17"], ["Jan 2023", "Feb 2023"], ["2023Q1", "2024Q2"]]
)
def test_addresses_versions_and_periods_are_categories(values):
    found = column_of(values * 40)
    assert (found.schema.column("v").type, messages(found, "unread_dates")) == ("category", [])
    assert not messages(found, "nearly_numbers")


@pytest.mark.parametrize(
    ("values", "kind", "check"),
    [
        (["1E5", "2E7", "3E1"], "category", "codes"),
        (["12E5", "345", "678"], "category", "codes"),
        (["12e5", "34.5", "11.2"], "number", None),  # fractions: printers of numbers
        (["1e+05", "2e+07"], "number", None),
        (["'Rome'", "'Bonn'"], "category", "quotes"),
        (["\u201cRome\u201d", "\u201cBonn\u201d"], "category", "quotes"),
    ],
)
def test_more_codes_and_quotes(values, kind, check):
    found = column_of(values * 27)
    assert found.schema.column("v").type == kind
    for name in ("codes", "quotes"):
        assert bool(messages(found, name)) is (name == check)


@pytest.mark.parametrize("odd", ["12E5", "007", "<5", ">100", "~3", "1.2.3", "--5", "1e400", "n/a!", "1/2"])
def test_one_odd_value_among_ten_thousand_is_never_silent(odd):
    found = column_of([str(100 + row % 777) for row in range(9_999)] + [odd])
    told = messages(found, "codes") or messages(found, "bad_values") or messages(found, "nearly_numbers")
    assert (found.schema.column("v").type in ("integer", "number"), len(told)) == (True, 1)
    assert len(found.quarantined) == (odd not in ("12E5", "007"))


@pytest.mark.parametrize("others", [["<5", ">100"], ["~3"], ["5 (est.)"], ["T"], ["1/2"]])
def test_censored_numbers_among_many_are_reported(others):
    found = column_of([str(row * 1.25) if row % 9 else others[row % len(others)] for row in range(81)])
    assert "are numbers, others are" in messages(found, "nearly_numbers")[0]


ROWS = [(row * 3 % 17, "RB"[row % 2] + "ome", row * 0.37 % 1, row % 3 % 2) for row in range(80)]
OBJECTS = [dict(zip(("k", "city", "x", "label"), row, strict=True)) for row in ROWS]


@pytest.mark.parametrize(
    ("body", "name", "told"),
    [
        (json.dumps(OBJECTS), "t.csv", "one JSON array: write one object a line"),
        ("\ufeff" + json.dumps(OBJECTS), "t.json", "one JSON array"),
        (json.dumps({"data": OBJECTS}), "t.json", "`jq -c '.data[]' FILE`"),
        ("\n".join(json.dumps(row, indent=1) for row in OBJECTS), "t.json", "`jq -c . FILE`"),
        ("\n".join(json.dumps(row) for row in ROWS), "t.jsonl", "line 1 is a list"),
        (",\n".join(json.dumps(row) for row in OBJECTS), "t.jsonl", "line 1 ends with a comma"),
        ("# made by a tool\n# v1\nk,label\n1,0\n2,1\n", "t.csv", "is not the header, which seems to be 'k,label'"),
        ("Report of May\n\nk;label\n1;0\n2;1\n", "t.csv", "is not the header, which seems to be 'k;label'"),
        ("k,city,label\n" + '1, "Rome, IT",0\n' * 40, "t.csv", "a blank stands before a quote"),
        ("k,city,label\n" + "1,'Rome, IT',0\n" * 40, "t.csv", "values stand in single quotes"),
        ("k,city,label\n" + '1,"a \\"b\\" c",0\n' * 40, "t.csv", "escaped by a backslash: double them"),
        ("k,,label\n" + "1,,0\n" * 900 + "1,5,1\n" * 40, "t.csv", "unnamed 2 has values and no name"),
    ],
)
def test_files_that_are_no_table_name_the_cause(body, name, told):
    assert told in validate_upload(body.encode(), name, ModelSpec(), {}, None).reasons[0]


@pytest.mark.parametrize("line", ['"sep=;"', "sep= ;", "sep=;;;;", "SEP=;", "sep=;,,,"])
def test_more_lines_that_say_the_delimiter(line, tmp_path):
    body = "\n".join([line, "k;city;x;label", *(";".join(map(str, row)) for row in ROWS)])
    found = validate_upload(body.encode(), "t.csv", ModelSpec(), {}, None)
    assert ([column.name for column in found.schema.columns], len(found.table)) == (["k", "city", "x", "label"], 80)
    (tmp_path / "t.csv").write_text(body, encoding="utf-8")
    assert read_format(tmp_path / "t.csv").columns == ("k", "city", "x", "label")
    assert len(read_rows(tmp_path / "t.csv").rows) == 80


def test_a_second_mark_of_the_byte_order_is_no_letter_of_a_name():
    found = validate_upload(b"\xef\xbb\xbf" * 2 + b"k,label\n" + b"1,0\n2,1\n" * 20, "t.csv", ModelSpec(), {}, None)
    assert found.schema.columns[0].name == "k"


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["yes", "no", "?"], ("?", "no", "yes")),
        (["1", "0", "NA"], ("0", "1", "NA")),
        (["0", "1", "-"], ("-", "0", "1")),
    ],
)
def test_a_class_like_a_missing_value_among_others_is_reported(values, classes):
    (message,) = messages(column_of(values * 30, target="v"), "null_values")
    assert "were read as missing, and their rows are quarantined" in message
    settled = column_of(values * 30, target="v", read={"null_values": [""]}, columns={"v": {"type": "category"}})
    assert (settled.schema.classes, settled.accepted) == (classes, True)


def test_whole_numbers_that_a_writer_made_fractions_are_a_choice_as_well():
    found = column_of(["1.0", "2.0", "3.0"] * 30, target="v")
    assert found.schema.task == "regression"
    assert "as classes, set task: multiclass" in messages(found, "task")[0]
    assert not messages(column_of(["1.5", "2.0", "3.0"] * 30, target="v"), "task")
