import pytest
from millrace_cli.commands.predict import convert_column, read_request, row_count
from millrace_cli.errors import RefusedError


def test_a_file_becomes_a_split_frame_with_json_types(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age,city,code\n41,Oslo,007\n,Bergen,\n", encoding="utf-8")

    request = read_request(str(path), {"age": "integer", "city": "category", "code": "category"})

    assert request == {
        "dataframe_split": {"columns": ["age", "city", "code"], "data": [[41, "Oslo", "007"], [None, "Bergen", None]]}
    }
    assert row_count(request) == 2


def test_the_target_is_left_out(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age,churned\n41,yes\n", encoding="utf-8")

    assert read_request(str(path), drop=["churned"])["dataframe_split"] == {"columns": ["age"], "data": [[41]]}


@pytest.mark.parametrize(
    ("values", "converted"),
    [(["1", "2.5"], [1, 2.5]), (["1", "x"], ["1", "x"]), (["NA", "3"], [None, 3]), (["inf", "1"], ["inf", "1"])],
)
def test_without_a_schema_a_column_is_numeric_when_all_of_it_is(values, converted):
    assert convert_column(values) == converted


def test_a_word_in_a_numeric_column_stays_for_the_api_to_name():
    assert convert_column(["1", "about 20"], "number") == [1, "about 20"]


@pytest.mark.parametrize("text", ['{"age": 41}', '[{"age": 41}]'])
def test_inline_json_is_taken_as_rows(text):
    assert read_request(text) == {"dataframe_records": [{"age": 41}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("nowhere.csv", "neither a file nor JSON"), ("{oops", "not valid JSON"), ("[1, 2]", "no rows"), ("[]", "no rows")],
)
def test_what_is_no_request_is_refused(text, message):
    with pytest.raises(RefusedError, match=message):
        read_request(text)


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"", "no rows"), (b"a,b\n", "no rows"), (b"a,b\n1\n", "row 2 has 1"), (b"a\n\xff\n", "UTF-8")],
)
def test_broken_files_are_refused(tmp_path, body, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(body)

    with pytest.raises(RefusedError, match=message):
        read_request(str(path))
