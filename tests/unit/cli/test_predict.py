import csv
import io
import json
from datetime import date
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from millrace.conformal import MAX_LEVEL, MIN_LEVEL
from millrace.data.validation import validate_upload
from millrace.schema import Column
from millrace.spec import ModelSpec
from millrace_cli.commands.predict import convert_column, read_request, row_count
from millrace_cli.errors import RefusedError
from millrace_cli.main import app
from pyarrow import parquet
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

VERSION = {
    "schema": {
        "columns": [
            {"name": "id", "type": "text", "role": "identifier"},
            {"name": "age", "type": "integer", "role": "feature"},
            {"name": "colour", "type": "category", "role": "feature"},
            {"name": "churned", "type": "category", "role": "target"},
        ]
    }
}
LABELLED = {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "decision": "yes"}
ROWS = "id,age,colour,churned\nc1,41,red,yes\nc2,x,blue,no\n"

FAULTS = Path(__file__).resolve().parents[2] / "samples" / "faults"


class PredictingApi(FakeApi):
    """Predicts the same for every row; a row without a number as its age is invalid."""

    def __init__(self, prediction=LABELLED, warnings=()):
        super().__init__({"/models/churn/versions/champion": [(200, VERSION)]})
        self.prediction, self.warnings, self.sent = prediction, list(warnings), []

    def __call__(self, request):
        if not request.url.path.endswith("/invocations"):
            return super().__call__(request)
        frame = json.loads(request.content)["dataframe_split"]
        self.sent.append(frame)
        position = frame["columns"].index("age")
        bad = [number for number, row in enumerate(frame["data"]) if isinstance(row[position], str)]
        names = [f"row {number}: age" for number in bad]
        if "colour" not in frame["columns"]:
            names = ["colour"]
        if (bad and request.url.params.get("on_error") != "partial") or "colour" in names:
            message = "is missing" if "colour" in names else "expects a number"
            fields = [{"field": name, "message": message} for name in names]
            return httpx.Response(400, json={"message": f"{len(names)} bad", "fields": fields})
        is_value = isinstance(self.prediction, float)
        empty = None if is_value else {"label": None, "probabilities": None, "decision": None}
        predictions = [empty if number in bad else self.prediction for number in range(len(frame["data"]))]
        errors = [{"row": number, "fields": [{"field": "age", "message": "expects a number"}]} for number in bad]
        answer = {"predictions": predictions, "model_version": 3, "prediction_id": "p", "warnings": self.warnings}
        if "interval" in request.url.params:
            own = [
                None if number in bad else [1.5, 40.0] if is_value else ["yes", "no"]
                for number in range(len(predictions))
            ]
            answer |= {"interval": float(request.url.params["interval"]), "intervals" if is_value else "sets": own}
        return httpx.Response(200, json=answer | ({"errors": errors} if errors else {}))


def run_predict(monkeypatch, api, *arguments):
    answer_commands(monkeypatch, api)
    return CliRunner().invoke(app, ["predict", "churn", *map(str, arguments)])


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_invalid_rows_are_refused_with_a_command_that_predicts_the_valid_ones(monkeypatch, rows):
    result = run_predict(monkeypatch, PredictingApi(), rows)

    assert result.exit_code == 1
    assert "row 2: age: expects a number" in result.stderr
    assert f"millrace predict churn {rows} --on-error partial" in result.stderr


def test_valid_rows_are_predicted_beside_invalid_ones(monkeypatch, rows):
    result = run_predict(monkeypatch, PredictingApi(), rows, "--on-error", "partial", "-o", "csv")

    assert result.exit_code == 0
    first, second = csv.DictReader(io.StringIO(result.stdout))
    expected = {"id": "c1", "age": "41", "colour": "red", "prediction": "yes", "decision": "yes"}
    assert first == expected | {"probability_no": "0.25", "probability_yes": "0.75", "error": ""}
    assert (second["prediction"], second["error"]) == ("", "age expects a number")


def test_the_table_has_the_ids_and_no_column_without_values(monkeypatch, rows):
    rows.write_text(ROWS.replace(",x,", ",7,"), encoding="utf-8")

    labelled = run_predict(monkeypatch, PredictingApi(), rows).stdout.splitlines()
    numbers = run_predict(monkeypatch, PredictingApi(12.5), rows).stdout.splitlines()

    assert labelled[0].split() == ["row", "id", "prediction", "probabilities"]
    assert labelled[1].split()[:3] == ["1", "c1", "yes"]
    assert [line.split() for line in numbers] == [
        ["row", "id", "prediction"],
        ["1", "c1", "12.5"],
        ["2", "c2", "12.5"],
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_a_file_gets_the_format_of_its_suffix(monkeypatch, rows, suffix):
    rows.write_text(ROWS.replace(",x,", ",7,"), encoding="utf-8")
    file = rows.with_name(f"predictions.{suffix}")

    result = run_predict(monkeypatch, PredictingApi(12.5), rows, "--output", file)

    assert result.exit_code == 0
    assert result.stdout == ""
    if suffix == "json":
        assert json.loads(file.read_text())["predictions"] == [12.5, 12.5]
        return
    table = (
        parquet.read_table(file).to_pylist()
        if suffix == "parquet"
        else list(csv.DictReader(io.StringIO(file.read_text())))
    )
    assert [(row["id"], float(row["prediction"])) for row in table] == [("c1", 12.5), ("c2", 12.5)]


@pytest.mark.parametrize("arguments", [["--output", "p.txt"], ["-o", "parquet"]])
def test_an_unclear_format_is_refused_before_anything_is_sent(monkeypatch, rows, arguments):
    api = PredictingApi()

    assert run_predict(monkeypatch, api, rows, *arguments).exit_code == 2
    assert api.sent == []


def test_the_earlier_meaning_of_output_is_still_read(monkeypatch, rows):
    rows.write_text(ROWS.replace(",x,", ",7,"), encoding="utf-8")

    result = run_predict(monkeypatch, PredictingApi(), rows, "--output", "json")

    assert json.loads(result.stdout)["model_version"] == 3


def test_unknown_columns_are_named(monkeypatch, rows):
    rows.write_text("id,age,colour,city\nc1,4,red,Oslo\n", encoding="utf-8")
    note = {"field": "*", "message": "1 column unknown to the model: ignored"}

    result = run_predict(monkeypatch, PredictingApi(warnings=[note]), rows)

    assert "city: is not a column of the model, ignored" in result.stderr
    assert "1 column unknown" not in result.stderr


def test_a_misspelt_column_is_connected_with_the_missing_one(monkeypatch, rows):
    rows.write_text("id,age,color\nc1,4,red\n", encoding="utf-8")

    result = run_predict(monkeypatch, PredictingApi(), rows)

    assert result.exit_code == 1
    assert "rename 'color' to 'colour'" in result.stderr


@pytest.mark.parametrize("prediction", [LABELLED, 12.5], ids=["classes", "values"])
@pytest.mark.parametrize("output", ["csv", "parquet", "json", "table"])
def test_intervals_stand_beside_the_rows_also_of_several_requests(monkeypatch, tmp_path, prediction, output):
    rows, file = tmp_path / "rows.csv", tmp_path / f"predictions.{output}"
    rows.write_text("id,age,colour\n" + "".join(f"c{row},{row},red\n" for row in range(1_500)), encoding="utf-8")
    api = PredictingApi(prediction)
    where = [] if output == "table" else ["--output", file]

    result = run_predict(monkeypatch, api, rows, "--interval", "0.9", *where)

    assert (result.exit_code, len(api.sent)) == (0, 2), result.stderr
    names = ["prediction_set"] if prediction is LABELLED else ["interval_low", "interval_high"]
    if output == "json":
        document = json.loads(file.read_text())
        assert (document["interval"], len(document.get("sets") or document["intervals"])) == (0.9, 1_500)
    elif output == "table":
        assert result.stdout.splitlines()[0].split()[-len(names) :] == names
        assert result.stdout.splitlines()[1_500].split()[0] == "1500"
    else:
        table = (
            parquet.read_table(file).to_pylist()
            if output == "parquet"
            else list(csv.DictReader(io.StringIO(file.read_text())))
        )
        read = json.loads if output == "csv" else lambda value: value
        expected = [["yes", "no"]] if prediction is LABELLED else [1.5, 40.0]
        assert [[read(row[name]) for name in names] for row in table] == [expected] * 1_500


def test_rows_without_a_prediction_have_no_interval(monkeypatch, rows):
    options = ["--on-error", "partial", "-o", "csv", "--interval", "0.9"]
    for prediction, names in ((LABELLED, ["prediction_set"]), (12.5, ["interval_low", "interval_high"])):
        result = run_predict(monkeypatch, PredictingApi(prediction), rows, *options)
        _, second = csv.DictReader(io.StringIO(result.stdout))
        assert [second[name] for name in names] == [""] * len(names)


@pytest.mark.parametrize("level", ["0.4", "1", "90", "high", "nan"])
def test_a_level_that_is_none_is_refused_before_anything_is_sent(monkeypatch, rows, level):
    api = PredictingApi()
    assert run_predict(monkeypatch, api, rows, "--interval", level).exit_code == 2
    assert api.sent == []


def test_the_command_has_the_levels_of_the_api(monkeypatch, rows):
    rows.write_text(ROWS.replace(",x,", ",7,"), encoding="utf-8")
    levels = (MIN_LEVEL - 1e-9, MIN_LEVEL, MAX_LEVEL, MAX_LEVEL + 1e-9)
    codes = [run_predict(monkeypatch, PredictingApi(), rows, "--interval", level).exit_code for level in levels]
    assert codes == [2, 0, 0, 2]


def test_a_fault_of_no_row_has_no_advice_about_rows(monkeypatch, rows):
    class WithoutCalibration(PredictingApi):
        def __call__(self, request):
            if "interval" not in request.url.params:
                return super().__call__(request)
            fields = [{"field": "interval", "message": "is not known; train a new version"}]
            return httpx.Response(400, json={"message": "interval is not known", "fields": fields})

    result = run_predict(monkeypatch, WithoutCalibration(), rows, "--interval", "0.9")

    assert result.exit_code == 1
    assert "train a new version" in result.stderr
    assert "--on-error" not in result.stderr


def columns_of(**types: str) -> dict[str, Column]:
    return {name: Column(name, kind) for name, kind in types.items()}


def test_what_trains_predicts(tmp_path):
    types = columns_of(when="datetime", code="category", amount="number")
    table = {"when": [date(2024, 5, 3)], "code": [7], "amount": [float("nan")]}
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text('{"when": "2024-05-03", "code": 7}\n', encoding="utf-8")
    (tmp_path / "rows.csv").write_bytes("sep=;\nwhen;code;amount\n2024-05-03;7;\n".encode("utf-16"))
    (tmp_path / "latin.csv").write_bytes("when\tcode\n2024-05-03\tcaf\xe9\n".encode("latin-1"))

    frames = [read_request(str(tmp_path / f"rows.{suffix}"), types) for suffix in ("parquet", "jsonl", "csv")]

    assert [frame["dataframe_split"]["data"][0][:2] for frame in frames] == [["2024-05-03", "7"]] * 3
    assert frames[0]["dataframe_split"]["data"][0][2] is None
    assert read_request(str(tmp_path / "latin.csv"), types)["dataframe_split"]["data"] == [["2024-05-03", "café"]]


def test_numbers_are_read_as_training_reads_the_same_file():
    path = FAULTS / "predict-reads-less-than-train" / "train_and_predict.csv"
    types = columns_of(umsatz="number", stadt="category")
    frame = read_request(str(path), types, drop=["label"])["dataframe_split"]
    trained = validate_upload(path, path.name, ModelSpec(), {}, None).table
    assert [row[0] for row in frame["data"]] == trained.columns["umsatz"].tolist()
    assert [row[1] for row in frame["data"]] == trained.columns["stadt"].tolist()


def test_what_training_takes_for_no_number_stays_text():
    assert convert_column(["1_000", "\N{ARABIC-INDIC DIGIT THREE}", "0x1", "1e3"], Column("v", "number")) == [
        "1_000",
        "\N{ARABIC-INDIC DIGIT THREE}",
        "0x1",
        1e3,
    ]


def test_the_model_decides_which_strings_are_missing(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("region,score\nNA,?\n,NA\n", encoding="utf-8")
    frame = read_request(str(path), columns_of(region="category", score="number"))["dataframe_split"]
    assert frame["data"] == [["NA", "?"], [None, "NA"]]


def test_a_file_becomes_a_split_frame_with_json_types(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age,city,code\n41,Oslo,007\n,Bergen,\n", encoding="utf-8")

    request = read_request(str(path), columns_of(age="integer", city="category", code="category"))

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
    assert convert_column(["1", "about 20"], Column("v", "number")) == [1, "about 20"]


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
    [
        (b"", "no header"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1\n", "line 2: 1 fields where the header has 2"),
        (b"PK\x03\x04", "workbook"),
    ],
)
def test_broken_files_are_refused(tmp_path, body, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(body)

    with pytest.raises(RefusedError, match=message):
        read_request(str(path))
