"""Numbers are read as they are written where that is certain, and reported where it is not."""

import pytest
from millrace.data.read import open_table
from millrace.data.validation import validate_upload
from millrace.spec import ModelSpec


def look(*cells: str, **read: str):
    rows = "".join(f"{cells[i % len(cells)]};{i % 2}\n" for i in range(60))
    return validate_upload(("x;label\n" + rows).encode(), "t.csv", ModelSpec.parse({"read": read}), {}, None)


@pytest.mark.parametrize(
    ("cells", "read", "values"),
    [
        (("1,5", "20,25"), {}, [1.5, 20.25]),
        (("1.234,5", "2,25"), {}, [1234.5, 2.25]),
        (("1,234.5", "2.25"), {}, [1234.5, 2.25]),
        (("1,234,567", "5"), {}, [1234567.0, 5.0]),
        (("1,234", "5,678"), {"decimal": ","}, [1.234, 5.678]),
        (("1,234", "5,678"), {"thousands": ","}, [1234.0, 5678.0]),
        (("1.234", "5.678"), {"decimal": ",", "thousands": "."}, [1234.0, 5678.0]),
        (("1 234,5", "2"), {"decimal": ",", "thousands": " "}, [1234.5, 2.0]),
        (("1.234", "5.678"), {}, [1.234, 5.678]),
    ],
)
def test_numbers_are_read_as_they_are_written(cells, read, values):
    examined = look(*cells, **read)
    assert examined.accepted
    assert examined.table.columns["x"][:2].tolist() == values
    style = [finding for finding in examined.findings if finding.check == "number_style"]
    assert bool(style) == (not read and cells[0] != "1.234")


def test_what_could_be_either_is_reported_and_left_as_words():
    examined = look("1,234", "5,678")
    assert examined.schema.column("x").type == "category"
    assert "ambiguous_numbers" in {finding.check for finding in examined.findings}


def test_two_styles_in_one_file_are_reported():
    reader = open_table(b"a;b;y\n1,5;2.5;0\n2,5;3.5;1\n", "t.csv")
    assert [finding.check for finding in reader.findings] == ["mixed_number_styles"]


def test_a_number_of_another_style_is_set_aside_not_misread():
    body = "x;label\n" + "".join(f"{i},5;{i % 2}\n" for i in range(60)) + "1.5;0\n"
    examined = validate_upload(body.encode(), "t.csv", ModelSpec(), {}, None)
    assert [(row.line, row.value) for row in examined.quarantined] == [(62, "1.5")]
    assert examined.description["numbers"] == "1234,5"


def test_a_style_that_begins_late_is_found_in_long_lines():
    lines = [f"{i};{'x' * 2_000};{i % 2}" for i in range(200)] + [f"{i},5;{'x' * 2_000};{i % 2}" for i in range(200)]
    reader = open_table("\n".join(["number;note;label", *lines]).encode(), "t.csv")
    assert reader.description["numbers"] == "1234,5"
