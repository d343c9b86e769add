"""Requests, output and errors of `millrace data` and `millrace spec`."""

import io
import json

import pytest
import yaml
from botocore.exceptions import ClientError
from millrace.data.dataset_queries import SUMMARISED_FIELDS
from millrace.spec import ModelSpec
from millrace_cli import output
from millrace_cli.commands import spec
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

ID = "ab12" + "0" * 60
RECORD = {
    "model": "churn",
    "dataset_id": ID,
    "rows": 1200,
    "columns": 3,
    "quarantined_rows": 7,
    "schema_version": 2,
    "schema_revision": 1,
    "warnings": 1,
    "accepted_at": "2026-05-03T14:15:00+00:00",
    "source": {
        "bucket": "data",
        "key": "incoming/churn/may.csv",
        "version_id": "v1",
        "uploaded_at": "2026-05-03T14:14:00+00:00",
    },
}
DATASET = {
    "dataset": RECORD,
    "manifest": {"run_id": "r1", "code_version": "0.1.0", "parents": ["cd34" + "0" * 60]},
    "findings": [{"severity": "warning", "check": "new_column", "message": "the column 'city' [new] is left out"}],
    "profile": {
        "columns": [
            {"name": "age", "type": "integer", "role": "feature", "missing_share": 0.25, "distinct": 60}
            | {"minimum": 18, "maximum": 90, "quantiles": {"0.5": 41.0}},
            {"name": "plan", "type": "category", "role": "feature", "missing_share": 0.0, "distinct": 2}
            | {"top": [{"value": "basic", "count": 900}, {"value": "pro", "count": 300}]},
            {
                "name": "iban",
                "type": "text",
                "role": "ignored",
                "missing_share": 0.0,
                "distinct": 1200,
                "sensitive": True,
                "hidden": True,
            },
        ]
    },
    "report_key": f"datasets/churn/{ID}/report.html",
}
DIFFERENCE = {
    "before": ID,
    "after": "cd34" + "0" * 60,
    "schema": {"kind": "compatible", "details": ["the column 'city' (category) is new, as feature"]},
    "volume": {"rows": [1200, 900], "columns": [3, 4], "quarantined_rows": [7, 0], "row_ratio": 0.75},
    "target": {"name": "churned", "shares": [{"value": "yes", "before": 0.2, "after": 0.3}]},
    "columns": [
        {"name": "age", "type": "integer", "psi": 0.31, "verdict": "large", "missing_share": [0.0, 0.1]}
        | {"mean": [41.0, 52.0], "shares": []},
        {"name": "plan", "type": "category", "psi": None, "verdict": "unknown", "missing_share": [0.0, 0.0]}
        | {"mean": None, "shares": [{"value": "pro", "before": 0.25, "after": 0.5}]},
    ],
}
SCHEMA = {
    "version": 2,
    "revision": 1,
    "task": "binary",
    "classes": ["no", "yes"],
    "columns": [
        {"name": "age", "type": "integer", "role": "feature", "nullable": True, "minimum": 18.0, "maximum": 90.0}
        | {"rules": {"maximum": 120.0, "severity": "warning"}},
        {"name": "plan", "type": "category", "role": "feature", "nullable": False, "categories": list("abcdefg")},
        {
            "name": "iban",
            "type": "text",
            "role": "ignored",
            "nullable": False,
            "sensitive": True,
            "reason": "free text",
        },
    ],
}


class FakeS3:
    def __init__(self, body):
        self.body = body

    def get_object(self, *, Bucket, Key):
        if self.body is None:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "The key does not exist"}}, "GetObject")
        assert (Bucket, Key) == ("data", DATASET["report_key"])
        return {"Body": io.BytesIO(self.body)}


class FakeTarget:
    def __init__(self, body):
        self.body = body

    def client(self, service):
        return FakeS3(self.body)

    def output(self, name):
        return "data"


@pytest.fixture
def run(monkeypatch):
    """Run a command against canned answers; returns the result and what was asked."""

    def run_command(arguments, answers, report=None):
        api = FakeApi(
            {path: [answer if isinstance(answer, tuple) else (200, answer)] for path, answer in answers.items()}
        )

        answer_commands(monkeypatch, api, FakeTarget(report))
        # The console took the terminal's width when it was made, so the environment would come too late.
        monkeypatch.setattr(output.out, "_width", 200)
        result = CliRunner().invoke(app, arguments)
        return result, api.requests

    return run_command


class TestData:
    def test_datasets_are_listed(self, run):
        result, _ = run(["data", "list", "churn"], {"/models/churn/datasets": {"datasets": [RECORD]}})
        assert result.exit_code == 0
        for expected in ("ab1200000000", "1,200", "2.1", "may.csv"):
            assert expected in result.stdout

    def test_without_datasets_the_next_command_is_shown(self, run):
        result, _ = run(["data", "list", "churn"], {"/models/churn/datasets": {"datasets": []}})
        assert "millrace train churn FILE" in result.stderr

    def test_a_dataset_is_shown_without_its_sensitive_values(self, run):
        result, _ = run(["data", "show", "churn", "ab12"], {"/models/churn/datasets/ab12": DATASET})
        assert result.exit_code == 0
        for expected in ("s3://data/incoming/churn/may.csv, version v1", "cd3400000000", "'city' [new] is left out"):
            assert expected in result.stdout
        assert "18 to 90, median 41" in result.stdout
        assert "basic 900, pro 300" in result.stdout
        assert "hidden" in result.stdout

    def test_the_report_is_saved_and_may_be_opened(self, run, tmp_path):
        file = tmp_path / "report.html"
        answers = {"/models/churn/datasets/ab12": DATASET}
        result, _ = run(["data", "show", "churn", "ab12", "--report", str(file)], answers, b"<html>")
        assert result.exit_code == 0
        assert file.read_bytes() == b"<html>"
        assert file.as_uri() in result.stderr

    @pytest.mark.parametrize(("body", "folder", "exit_code"), [(None, "", 1), (b"x", "nowhere", 2)])
    def test_a_report_that_cannot_be_saved_is_one_sentence(self, run, tmp_path, body, folder, exit_code):
        file = tmp_path / folder / "report.html"
        answers = {"/models/churn/datasets/ab12": DATASET}
        result, _ = run(["data", "show", "churn", "ab12", "--report", str(file)], answers, body)
        assert result.exit_code == exit_code
        assert "error: " in result.stderr
        assert not file.exists()

    def test_a_difference_is_shown(self, run):
        path = "/models/churn/datasets/ab12/diff/cd34"
        result, _ = run(["data", "diff", "churn", "ab12", "cd34"], {path: DIFFERENCE})
        assert result.exit_code == 0
        for expected in (
            "compatible change",
            "'city' (category) is new",
            "0.31",
            "large",
            "41 -> 52",
            "25.0% -> 50.0%",
        ):
            assert expected in result.stdout

    def test_a_schema_is_shown_with_what_is_demanded(self, run):
        result, requests = run(["data", "schema", "churn", "--version", "2.1"], {"/models/churn/schema": SCHEMA})
        assert result.exit_code == 0
        assert requests[0].url.params["version"] == "2.1"
        for expected in (
            "churn: schema 2.1, binary (no, yes)",
            "maximum 120 (warning)",
            "a, b, c, d, e ... (7)",
            "free text",
        ):
            assert expected in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "path", "answer"),
        [
            (["list", "churn"], "/models/churn/datasets", {"datasets": [RECORD]}),
            (["show", "churn", "ab12"], "/models/churn/datasets/ab12", DATASET),
            (["diff", "churn", "ab12", "cd34"], "/models/churn/datasets/ab12/diff/cd34", DIFFERENCE),
            (["schema", "churn"], "/models/churn/schema", SCHEMA),
        ],
    )
    def test_json_output_is_the_response(self, run, arguments, path, answer):
        result, _ = run(["data", *arguments, "--json"], {path: answer})
        assert json.loads(result.stdout) == answer

    def test_a_dataset_that_is_not_there_is_one_sentence(self, run):
        result, _ = run(["data", "show", "churn", "ab12"], {})
        assert result.exit_code == 1
        assert "no such thing" in result.stderr


def spec_document(**fields):
    return {
        "model": "churn",
        "revision": 3,
        "changed_at": "2026-05-03T14:15:00+00:00",
        "changed_by": "ann",
        "spec": ModelSpec.parse(fields).model_dump(mode="json"),
    }


class TestSpec:
    def test_a_spec_is_shown_as_what_was_said_and_can_be_applied_again(self, run, tmp_path):
        said = {"target": "churned", "columns": {"age": {"maximum": 120.0, "allowed": None}}}
        result, _ = run(["spec", "show", "churn"], {"/models/churn/spec": spec_document(**said)})
        assert result.exit_code == 0
        assert yaml.safe_load(result.stdout) == {"target": "churned", "columns": {"age": {"maximum": 120.0}}}
        assert "revision 3" in result.stderr
        file = tmp_path / "spec.yaml"
        file.write_text(result.stdout, encoding="utf-8")
        assert ModelSpec.parse(spec.read_spec(file)) == ModelSpec.parse(said)

    def test_full_shows_every_field_of_a_spec(self, run):
        result, _ = run(["spec", "show", "churn", "--full"], {"/models/churn/spec": spec_document()})
        assert yaml.safe_load(result.stdout) == ModelSpec().model_dump(mode="json")

    def test_a_model_that_has_only_defaults_says_so(self, run):
        result, _ = run(["spec", "show", "churn"], {"/models/churn/spec": spec_document()})
        assert "default" in result.stdout

    def test_a_spec_is_sent_and_its_effect_shown(self, run, tmp_path):
        file = tmp_path / "spec.yaml"
        file.write_text("target: churned\ncolumns:\n  age: {type: category}\n", encoding="utf-8")
        answer = spec_document() | {
            "changes": ["target: None -> churned"],
            "schema": {"kind": "incompatible", "details": ["the schema is inferred anew from the next upload"]},
        }
        result, (request,) = run(
            ["spec", "apply", "churn", str(file), "--reason", "why"], {"/models/churn/spec": answer}
        )
        assert result.exit_code == 0
        assert request.method == "PUT"
        assert json.loads(request.content) == {
            "spec": {"target": "churned", "columns": {"age": {"type": "category"}}},
            "reason": "why",
        }
        assert "revision 3" in result.stdout
        assert "creates a new version of the schema" in result.stdout

    def test_the_same_spec_again_says_that_nothing_changed(self, run, tmp_path):
        file = tmp_path / "spec.yaml"
        file.write_text("", encoding="utf-8")
        answer = spec_document() | {"changes": [], "schema": {"kind": None, "details": []}}
        result, _ = run(["spec", "apply", "churn", str(file)], {"/models/churn/spec": answer})
        assert "nothing changed" in result.stdout

    def test_every_bad_field_is_named_before_anything_is_sent(self, run, tmp_path):
        file = tmp_path / "spec.yaml"
        file.write_text("targt: x\ncolumns: {age: {role: predictor, allowed: [yes]}}\n", encoding="utf-8")
        result, requests = run(["spec", "apply", "churn", str(file)], {})
        assert (result.exit_code, requests) == (2, [])
        for field in ("targt", "columns.age.role", "columns.age.allowed.0"):
            assert f"  {field}: " in result.stderr

    @pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "just words", None])
    def test_what_is_no_spec_is_refused(self, run, tmp_path, text):
        file = tmp_path / "spec.yaml"
        if text is not None:
            file.write_text(text, encoding="utf-8")
        result, requests = run(["spec", "apply", "churn", str(file)], {})
        assert (result.exit_code, requests) == (2, [])
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("field", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("target='no'", ("target",), "no"),
        ("columns.a.b.role=ignored", ("columns", "a.b", "role"), "ignored"),
        ("read.null_words=['#N/A', '?']", ("read", "null_words"), ["#N/A", "?"]),
        ("target=null", ("target",), None),
    ],
)
def test_a_field_is_a_path_and_a_yaml_value(field, path, value):
    assert spec.parse_field(field) == (path, value)


def test_single_fields_change_and_the_others_stay(monkeypatch):
    applied = {"model": "churn", "revision": 4, "changes": ["seed: 1 to 3"], "schema": {"kind": "none", "details": []}}
    before = {"spec": {"seed": 1, "target": "churned", "task": "binary"}}
    api = FakeApi({"/models/churn/spec": [(200, before), (200, applied)]})
    answer_commands(monkeypatch, api)

    result = CliRunner().invoke(app, ["spec", "set", "churn", "seed=3", "task=null", "columns.age.role=ignored"])

    assert result.exit_code == 0, result.output
    sent = json.loads(api.requests[-1].content)["spec"]
    assert sent == {"seed": 3, "target": "churned", "columns": {"age": {"role": "ignored"}}}
    assert "seed: 1 to 3" in result.stdout


@pytest.mark.parametrize("field", ["seed", "=1", "sead=1", "seed=x", "columns.age.roll=ignored", "seed.x=1", "seed=[1"])
def test_an_invalid_field_is_refused_before_it_is_sent(monkeypatch, field):
    api = FakeApi({"/models/churn/spec": [(200, {"spec": {"seed": 1}})]})
    answer_commands(monkeypatch, api)

    result = CliRunner().invoke(app, ["spec", "set", "churn", field])

    assert result.exit_code == 2
    assert [request.method for request in api.requests] in ([], ["GET"])


def test_a_file_that_nests_too_deeply_is_refused(tmp_path):
    (tmp_path / "spec.yaml").write_text("[" * 3_000, encoding="utf-8")

    with pytest.raises(spec.RefusedError, match=r"nests too deeply|not YAML"):
        spec.read_spec(tmp_path / "spec.yaml")


def profile_of(columns):
    return {**DATASET, "profile": {"columns": [{"missing_share": 0.0, "distinct": 3, **column} for column in columns]}}


@pytest.mark.parametrize(
    ("column", "shown", "hidden"),
    [
        (
            {"name": "at", "type": "datetime", "role": "feature", "minimum": 1.294e9, "maximum": 1.309e9}
            | {"quantiles": {"0.5": 1.302e9}},
            "2011-01-02 20:26 to 2011-06-25 11:06, median 2011-04-05 10:40",
            "e+09",
        ),
        (
            {"name": "who", "type": "text", "role": "identifier", "hidden": True},
            "hidden",
            " to ",
        ),
        (
            {"name": "price", "type": "number", "role": "feature", "minimum": 25_870.0, "maximum": 36_510.0},
            "25,870",
            "e+0",
        ),
        ({"name": "yr", "type": "integer", "role": "feature", "minimum": 0.0, "maximum": 0.0}, " 0 ", "0 to 0"),
        (
            {"name": "SeniorCitizen", "type": "integer", "role": "feature", "minimum": 0.0, "maximum": 1.0}
            | {"distinct": 2, "mean": 0.162, "quantiles": {"0.5": 0.0}},
            "0 83.8%, 1 16.2%",
            "median",
        ),
    ],
)
def test_values_are_readable_and_those_of_people_are_not_shown(monkeypatch, column, shown, hidden):
    assert column.keys() <= SUMMARISED_FIELDS, "the API does not have it"
    answer_commands(monkeypatch, FakeApi({"/models/churn/datasets/ab12": [(200, profile_of([column]))]}))

    monkeypatch.setattr(output.out, "_width", 200)

    text = CliRunner().invoke(app, ["data", "show", "churn", "ab12"]).stdout

    assert shown in text
    assert hidden not in text


def test_without_an_id_the_newest_dataset_is_shown(monkeypatch):
    listed = {"datasets": [RECORD, {**RECORD, "dataset_id": "cd34"}]}
    answers = {"/models/churn/datasets": [(200, listed)], f"/models/churn/datasets/{ID}": [(200, DATASET)]}
    answer_commands(monkeypatch, FakeApi(answers))

    assert ID in CliRunner().invoke(app, ["data", "show", "churn"]).stdout


def test_a_model_without_datasets_has_none_to_show(monkeypatch):
    answer_commands(monkeypatch, FakeApi({"/models/churn/datasets": [(200, {"datasets": []})]}))

    result = CliRunner().invoke(app, ["data", "show", "churn"])

    assert result.exit_code == 1
    assert "millrace runs churn" in result.stderr
