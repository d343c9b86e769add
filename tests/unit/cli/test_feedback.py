"""Files, requests and output of `millrace feedback`."""

import json

import pytest
from millrace.schema import Column
from millrace_cli import output
from millrace_cli.commands import feedback
from millrace_cli.commands.predict import ModelColumns
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

PATH = "/models/churn/feedback"
SCHEMA = {
    "columns": [
        {"name": "customer", "type": "integer", "role": "identifier"},
        {"name": "age", "type": "integer"},
        {"name": "churned", "type": "boolean", "role": "target"},
    ]
}
COVERAGE = {
    "model": "churn",
    "start": "2026-05-03T12:00:00.000000Z",
    "predictions": 4,
    "labelled": 3,
    "coverage": 0.75,
    "days": [{"day": "2026-05-03", "predictions": 4, "labelled": 3, "coverage": 0.75}],
    "versions": [{"version": 7, "predictions": 4, "labelled": 3, "coverage": 0.75}],
    "feedback": {"records": 5, "superseded": 1, "unmatched": 1},
    "captures": {"kept_share": 1.0},
}


def refusal(*faults: tuple[str, str]) -> tuple[int, dict]:
    return 400, {"message": "wrong", "fields": [{"field": field, "message": message} for field, message in faults]}


@pytest.fixture
def run(monkeypatch):
    def run_command(arguments, answers):
        api = FakeApi(answers)
        answer_commands(monkeypatch, api)
        monkeypatch.setattr(output.out, "_width", 200)
        return CliRunner().invoke(app, arguments), api.requests

    return run_command


def sent(requests) -> list[dict]:
    return [
        report for request in requests if request.method == "POST" for report in json.loads(request.content)["feedback"]
    ]


MODEL = ModelColumns(
    {"customer": Column("customer", "integer", "identifier"), "churned": Column("churned", "category", "target")},
    "churned",
    "customer",
)


class TestFile:
    def write(self, tmp_path, text: str, name: str = "outcomes.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    def test_the_model_s_own_names_and_ours_are_read_and_other_columns_named(self, tmp_path):
        path = self.write(tmp_path, "customer,age,churned\n7,30,yes\n\n8,31,\n9,32,no\n")
        found = feedback.read_feedback(path, MODEL)
        assert [(report.line, report.body) for report in found.records] == [
            (2, {"customer": "7", "churned": "yes"}),
            (5, {"customer": "9", "churned": "no"}),
        ]
        assert (found.without_outcome, found.ignored) == (1, ("age",))

    def test_json_lines(self, tmp_path):
        text = '{"prediction_id": "p", "outcome": 1}\n\n{"prediction_id": "q", "outcome": null}\n'
        found = feedback.read_feedback(self.write(tmp_path, text, "outcomes.jsonl"), ModelColumns())
        assert [(report.line, report.body) for report in found.records] == [(1, {"prediction_id": "p", "outcome": 1})]
        assert found.without_outcome == 1

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("a.csv", "age,outcome\n1,yes\n", "no column with the prediction's id"),
            ("a.csv", "customer,age\n1,2\n", "no column with the outcome"),
            ("a.csv", "customer,outcome\n1\n", "line 2: 1 fields where the header has 2"),
            ("a.jsonl", "{\n", "the first line is not a JSON object"),
            ("a.jsonl", "[1]\n", "the first line is not a JSON object"),
        ],
    )
    def test_an_invalid_file_is_refused_with_the_reason(self, tmp_path, name, text, expected):
        with pytest.raises(RefusedError, match=expected):
            feedback.read_feedback(self.write(tmp_path, text, name), MODEL)

    def test_a_file_that_is_not_there_or_no_text(self, tmp_path):
        with pytest.raises(RefusedError, match="does not exist"):
            feedback.read_feedback(tmp_path / "none.csv", ModelColumns())
        (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(RefusedError, match=r"b\.csv"):
            feedback.read_feedback(tmp_path / "b.csv", ModelColumns())


class TestCommand:
    def test_a_file_is_sent_and_received(self, run, tmp_path):
        file = tmp_path / "outcomes.csv"
        file.write_text("customer,churned,age\n7,yes,1\n8,,2\n")
        result, requests = run(
            ["feedback", "churn", str(file)],
            {"/models/churn/schema": [(200, SCHEMA)], PATH: [(200, {"received": 1})]},
        )
        assert result.exit_code == 0, result.output
        assert "1 record received" in result.output
        assert sent(requests) == [{"customer": "7", "churned": "yes"}]

    def test_wrong_lines_are_named_and_the_others_sent(self, run, tmp_path):
        file = tmp_path / "outcomes.csv"
        file.write_text("customer,churned\n7,yes\n8,perhaps\n9,no\n")
        answers = {
            "/models/churn/schema": [(200, SCHEMA)],
            PATH: [refusal(("row 1: outcome", "expects one of 'no', 'yes'")), (200, {"received": 2})],
        }
        result, requests = run(["feedback", "churn", str(file)], answers)
        assert result.exit_code == 1
        assert "2 records received" in result.output
        assert "expects one of" in result.output
        assert [report["customer"] for report in sent(requests)][3:] == ["7", "9"]
        result, _ = run(["feedback", "churn", str(file), "--json"], answers)
        assert json.loads(result.stdout)["wrong"] == [
            {"line": 3, "field": "outcome", "message": "expects one of 'no', 'yes'"}
        ]

    def test_coverage_is_shown_without_a_file(self, run):
        result, requests = run(["feedback", "churn", "--hours", "24"], {PATH: [(200, COVERAGE)]})
        assert result.exit_code == 0, result.output
        assert "3 of 4 predictions have ground truth (75.0%)" in result.output
        assert requests[0].url.params["hours"] == "24"
        assert "2026-05-03" in result.output
        result, _ = run(["feedback", "churn", "--json"], {PATH: [(200, COVERAGE)]})
        assert json.loads(result.stdout)["coverage"] == 0.75

    def test_coverage_that_monitoring_counted_is_shown(self, run):
        kept = {name: COVERAGE[name] for name in COVERAGE if name not in ("feedback", "callers", "captures")}
        result, _ = run(["feedback", "churn"], {PATH: [(200, kept | {"source": "monitoring"})]})
        assert result.exit_code == 0, result.output
        assert "3 of 4 predictions have ground truth (75.0%); as monitoring has counted them" in result.output

    def test_without_predictions_it_says_so(self, run):
        result, _ = run(["feedback", "churn"], {PATH: [(200, COVERAGE | {"predictions": 0, "coverage": None})]})
        assert "no predictions of churn were captured since" in result.output

    def test_an_unknown_model_is_an_error(self, run, tmp_path):
        file = tmp_path / "outcomes.csv"
        file.write_text("row_id,outcome\n7,yes\n")
        result, _ = run(["feedback", "churn", str(file)], {})
        assert result.exit_code == 1


class TestSending:
    def send(self, answers, n_reports=5, size=2):
        api = FakeApi({PATH: answers})
        reports = [feedback.FeedbackRecord(10 + place, {"row_id": place}) for place in range(n_reports)]
        shown: list[int] = []
        return feedback.send_feedback(api.client(), "churn", reports, shown.append, size), api.requests, shown

    def test_a_long_file_goes_in_parts(self):
        sending, requests, shown = self.send([(200, {"received": 2})])
        assert (len(requests), sending.received, shown) == (3, 6, [2, 4, 6])
        assert [report["row_id"] for report in sent(requests)] == [0, 1, 2, 3, 4]

    def test_where_all_of_a_part_is_wrong_the_next_one_goes_on(self):
        wrong = refusal(("row 0: outcome", "no"), ("row 1: outcome", "no"), ("row 1: row_id", "no"))
        sending, _, _ = self.send([wrong, (200, {"received": 2})], 4)
        assert (sending.received, sending.invalid_lines) == (2, 2)
        assert [line for line, _, _ in sending.invalid] == [10, 11, 11]

    @pytest.mark.parametrize("answer", [(403, {"message": "no"}), (400, {"message": "no"}), refusal(("body", "no"))])
    def test_other_errors_are_errors(self, answer):
        with pytest.raises(ApiError):
            self.send([answer])
