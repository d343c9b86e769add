import json

import httpx
import pytest
from millrace_cli.commands import verify
from millrace_cli.errors import ApiError, CliError
from millrace_cli.main import app
from millrace_cli.verification.checks import CHECKS
from millrace_cli.verification.context import (
    Check,
    CheckError,
    NotApplicable,
    Verification,
    clean_up,
    make_rows,
    run_checks,
    write_table,
)
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands


class Target:
    poll_seconds, stack, region = 0.0, "millrace", "eu-west-1"

    def __init__(self, is_local=False, **clients):
        self.is_local = is_local
        self.clients = clients

    def client(self, service):
        return self.clients[service]

    def output(self, name):
        return name


class Recorded:
    def __init__(self):
        self.begun, self.ended = [], []

    def begin(self, check):
        self.begun.append(check.name)

    def end(self, result):
        self.ended.append((result.check.name, result.status, result.detail))


def raising(error):
    def run(_):
        raise error

    return run


def passing(_):
    return "as it should be"


def make_verification(target=None, api=None, **arguments):
    return Verification(target or Target(), api, None, "first-day", **arguments)


CHECKED = (
    Check("broken", raising(CheckError("half of it is missing")), "put it back"),
    Check("depends", passing, "", needs=("broken",)),
    Check("depends on that", passing, "", needs=("depends",)),
    Check("crashes", raising(ValueError("a fault of the check")), ""),
    Check("does not apply", raising(NotApplicable("there are no keys")), ""),
    Check("only there", passing, "", only_aws="no metrics here"),
    Check("independent", passing, ""),
)


def test_a_failed_check_stops_only_those_that_need_it():
    progress = Recorded()

    results = run_checks(make_verification(), CHECKED, progress)

    assert progress.ended == [(result.check.name, result.status, result.detail) for result in results]
    assert progress.ended == [
        ("broken", "failed", "half of it is missing"),
        ("depends", "skipped", "needs: broken"),
        ("depends on that", "skipped", "needs: depends"),
        ("crashes", "failed", "ValueError: a fault of the check"),
        ("does not apply", "skipped", "there are no keys"),
        ("only there", "passed", "as it should be"),
        ("independent", "passed", "as it should be"),
    ]
    assert progress.begun == ["broken", "crashes", "does not apply", "only there", "independent"]


def test_what_the_local_stack_cannot_show_is_skipped_with_the_reason():
    progress = Recorded()

    run_checks(make_verification(Target(is_local=True)), CHECKED[-2:], progress)

    assert progress.ended[0] == ("only there", "skipped", "only on AWS: no metrics here")


def test_checks_need_only_checks_before_them_and_each_has_a_remedy():
    seen = set()
    for check in CHECKS:
        assert set(check.needs) <= seen, check.name
        assert check.name not in seen
        assert check.remedy
        seen.add(check.name)


@pytest.fixture
def command(monkeypatch):
    """Run the command with these checks; returns its result and the verification that was cleaned up."""
    cleaned = []

    def clean(verification):
        cleaned.append(verification)
        return ["log lines"]

    def run(checks, *arguments):
        answer_commands(monkeypatch, FakeApi({}), Target())
        monkeypatch.setattr(verify, "CHECKS", checks)
        monkeypatch.setattr(verify, "clean_up", clean)
        return CliRunner().invoke(app, ["verify", *arguments], env={"COLUMNS": "200"}), cleaned

    return run


def test_the_command_shows_a_table_with_remedies_and_ends_with_1(command):
    result, cleaned = command(CHECKED)

    assert result.exit_code == 1
    assert "✗ broken" in result.stderr
    assert "half of it is missing; to do: put it back" in result.stdout
    assert "2 checks failed" in result.stdout
    assert "not removed: log lines" in result.stdout
    assert len(cleaned) == 1


def test_the_command_ends_with_0_when_none_failed(command):
    result, _ = command(CHECKED, "--skip", "broken", "--skip", "crashes", "--json")

    assert result.exit_code == 0, result.output
    results = json.loads(result.stdout)["results"]
    assert [entry["check"] for entry in results][:1] == ["depends"]
    assert {entry["remedy"] for entry in results} == {None}


def test_a_check_that_does_not_exist_is_refused(command):
    result, cleaned = command(CHECKED, "--skip", "brocken")

    assert result.exit_code == 2
    assert "name one of: broken, depends" in result.stderr
    assert not cleaned


def test_a_stack_is_deleted_at_the_end_only_when_its_name_is_repeated(command, monkeypatch):
    monkeypatch.setattr(verify, "STACK_DELETION", Check("stack deletion", passing, ""))

    kept, _ = command([])
    refused, cleaned = command([], "--delete-stack", "millrace-production")
    assert not cleaned[1:]
    deleted, _ = command([], "--delete-stack", "millrace")

    assert (kept.exit_code, refused.exit_code, deleted.exit_code) == (0, 2, 0)
    assert "stack deletion" not in kept.stdout
    assert "repeat it: --delete-stack millrace" in refused.stderr
    assert "stack deletion" in deleted.stdout


def test_what_was_created_is_removed_after_an_interruption(command):
    result, cleaned = command([Check("slow", raising(KeyboardInterrupt()), "")])

    assert result.exit_code == 130
    assert len(cleaned) == 1


class Bucket:
    """S3 with these keys, some of which cannot be deleted."""

    def __init__(self, keys, undeletable=()):
        self.keys = list(keys)
        self.undeletable = undeletable

    def get_paginator(self, _name):
        return self

    def paginate(self, *, Bucket, Prefix):
        found = [key for key in self.keys if f"{Bucket}/{key}".startswith(f"{Bucket}/{Prefix}")]
        return [{"Versions": [{"Key": key, "VersionId": "1"} for key in found]}]

    def delete_objects(self, *, Bucket, Delete):
        keys = {entry["Key"] for entry in Delete["Objects"]}
        if keys & set(self.undeletable):
            return {"Errors": [{"Code": "AccessDenied", "Message": "not allowed"}]}
        self.keys = [key for key in self.keys if key not in keys]
        return {}


class Deleting:
    """API that deletes models."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.deleted = []

    def delete(self, path, _body):
        if self.errors:
            raise self.errors.pop(0)
        self.deleted.append(path)


MINE = ["incoming/first-day/table.csv", "first-day/versions/1/model.onnx", "quarantine/first-day-rejected/x.json"]
OTHERS = ["incoming/first-days/table.csv", "incoming/churn/table.csv", "churn/versions/1/model.onnx"]


def test_cleaning_up_removes_both_models_and_their_objects_and_nothing_else():
    s3, api = Bucket([*MINE, *OTHERS]), Deleting(ApiError("there is no model", status=httpx.codes.NOT_FOUND))

    left = clean_up(make_verification(Target(s3=s3), api))

    assert s3.keys == OTHERS
    assert api.deleted == ["/models/first-day-rejected"]
    assert [entry for entry in left if "Error" in entry] == []
    assert "the ledgers of first-day and first-day-rejected" in left[0]


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed():
    s3, api = Bucket(MINE, MINE[:1]), Deleting(CliError("the API did not respond"))

    left = clean_up(make_verification(Target(s3=s3), api))

    assert s3.keys == MINE[:1]
    assert api.deleted == ["/models/first-day-rejected"]
    assert left[0].startswith("model first-day: CliError: the API did not respond")
    assert left[1].startswith("s3://DataBucketName/incoming/first-day/: CheckError: AccessDenied")


class Stack:
    """CloudFormation with one stack."""

    def __init__(self, **parameters):
        self.parameters = parameters
        self.updates = []

    def describe_stacks(self, **_):
        listed = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        return {"Stacks": [{"StackStatus": "UPDATE_COMPLETE", "Parameters": listed}]}

    def update_stack(self, *, Parameters, UsePreviousTemplate, **_):
        assert UsePreviousTemplate
        assert [entry["ParameterKey"] for entry in Parameters] == list(self.parameters)
        changes = {entry["ParameterKey"]: entry["ParameterValue"] for entry in Parameters if "ParameterValue" in entry}
        self.updates.append(changes)
        self.parameters |= changes

    def get_waiter(self, _name):
        return self

    def wait(self, **_):
        pass


def test_parameters_are_changed_and_restored():
    stack = Stack(LogLevel="INFO", PredictMemorySize="512", AlarmEmail="")
    verification = make_verification(Target(s3=Bucket([]), cloudformation=stack), Deleting())

    verification.update_parameters({"LogLevel": "ERROR"})
    verification.update_parameters({"LogLevel": "ERROR"})
    verification.update_parameters({"LogLevel": "WARN", "PredictMemorySize": "576"})
    clean_up(verification)
    clean_up(verification)

    assert stack.updates == [
        {"LogLevel": "ERROR"},
        {"LogLevel": "WARN", "PredictMemorySize": "576"},
        {"LogLevel": "INFO", "PredictMemorySize": "512"},
    ]


def test_the_table_can_be_learned_and_the_large_request_is_as_large_as_documented(tmp_path):
    lines = write_table(tmp_path / "table.csv", 400).read_text(encoding="utf-8").splitlines()

    assert len(lines) == 401
    assert {line.rpartition(",")[2] for line in lines[1:]} == {"0", "1"}
    body = json.dumps({"dataframe_records": make_rows(10_000)})
    # Lambda takes 6 MB, in which the body is a string and quotes count twice.
    assert len(body) < 4_500_000
    assert 4_500_000 + body.count('"') < 6_000_000


def test_a_large_request_is_filled_with_blanks(tmp_path):
    requests = []

    class Predicting:
        def post_bytes(self, _path, body, _headers):
            requests.append(body)
            return {"predictions": [{}] * 3, "prediction_id": "p-1"}

    verification = make_verification(Target(), Predicting())
    verification.predict(make_rows(3), size=5_000)

    assert len(requests[0]) == 5_000
    assert json.loads(requests[0])["dataframe_records"] == make_rows(3)
    assert verification.predicted == {"p-1": 3}
    with pytest.raises(CheckError, match="4 rows, 3 predictions"):
        verification.predict(make_rows(4))
