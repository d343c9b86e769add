"""Policies for people and applications: what each may do, over every route of the API and every kind of object."""

import json
import re
from fnmatch import fnmatchcase

import pytest
from millrace.tracking import tracking_api

from tests.template.template_file import ROOT, as_list, functions, load_template, referenced, resources

MODEL, OTHER = "churn", "orders"
#: Objects of each kind, by what they hold.
UPLOAD = f"DataBucket/incoming/{MODEL}/table.csv"
ROWS = {
    f"DataBucket/scored/{MODEL}/j1/part-00000.parquet",
    f"DataBucket/datasets/{MODEL}/d1/data.parquet",
    f"DataBucket/quarantine/{MODEL}/d1/rows.jsonl",
    f"DataBucket/quarantine/{MODEL}/d1/original/table.csv",
    f"DataBucket/prepared/{MODEL}/r1/train.parquet",
}
CAPTURED = {
    f"DataBucket/captures/{MODEL}/a.jsonl",
    f"DataBucket/feedback/{MODEL}/a.jsonl",
    f"DataBucket/replays/{MODEL}/r1/parts/a.npz",
}
DOCUMENTS = {
    f"DataBucket/datasets/{MODEL}/d1/manifest.json",
    f"DataBucket/datasets/{MODEL}/d1/report.html",
    f"DataBucket/quarantine/{MODEL}/d1/validation.json",
    f"DataBucket/monitoring/{MODEL}/reports/r.json",
    f"DataBucket/replays/{MODEL}/r1/report.html",
    f"ModelsBucket/{MODEL}/versions/1/card.html",
}
ARTIFACT = "ModelsBucket/mlflow/experiments/177/r1/artifacts/model.onnx"
TRIALS = {f"ModelsBucket/{MODEL}/runs/r1/trial.json"}

PREDICTIONS = (
    r"(GET|POST) /v[12]/models/.*|POST /models/[^/]+/(versions/[^/]+/)?invocations|GET /models/[^/]+/openapi.json"
)
FEEDBACK = r"POST /models/[^/]+/feedback"
STATE = r"GET /|GET /(ping|health|version|v2|v2/health/\w+)"
READS = (
    r"GET /models(/.*)?|GET /runs/[^/]+|GET /(uploads/refused|keys|aliases)(/verification)?|GET /(cost|dora|overview)"
)
MLFLOW = r"(GET|POST|PATCH|DELETE) /mlflow(/.*)?"
#: The requests that each may send, as one pattern over "METHOD /path".
REQUESTS = {
    "DataScientistPolicy": (
        rf"{PREDICTIONS}|{FEEDBACK}|{STATE}|{READS}|PUT /models/[^/]+/spec"
        r"|POST /models/[^/]+/(runs|monitoring|replays|batches|batches/.+)"
    ),
    "ApplicationPolicy": rf"{PREDICTIONS}|{FEEDBACK}|{STATE}",
    "ApplicationOfOneModelPolicy": rf"(?!.*{OTHER})({PREDICTIONS}|{FEEDBACK})|{STATE}",
    "MlflowUserPolicy": rf"(?!.* /mlflow/.*/alias){MLFLOW}|GET /mlflow/.*/alias",
    "ApproverPolicy": (
        rf"{READS}|(GET|POST|DELETE|PATCH) /mlflow/.*/alias"
        r"|POST /models/[^/]+/(promote|rollback|retire|replays|releases|releases/.+|runs/[^/]+/approval)"
    ),
    "AuditorPolicy": READS,
    "OperatorPolicy": (
        rf"{READS}|{STATE}|POST /models/[^/]+/(rollback|retire|gc|runs|monitoring|batches/.+|releases/x/abort)"
        r"|DELETE /models/[^/]+"
    ),
    "LogReaderPolicy": r"(?!)",
}
READABLE = {
    "DataScientistPolicy": {ARTIFACT} | ROWS | DOCUMENTS | TRIALS,
    "ApplicationPolicy": set(),
    "ApplicationOfOneModelPolicy": set(),
    "MlflowUserPolicy": {ARTIFACT},
    "ApproverPolicy": DOCUMENTS,
    "AuditorPolicy": DOCUMENTS,
    "OperatorPolicy": set(),
    "LogReaderPolicy": set(),
}
CHANGING = re.compile(
    r":(Put|Post|Delete|Create|Update|Start|Stop|Send|Publish|Tag|Untag|Attach|Pass|Abort|Restore|Copy|Receive|Invoke(?!$))"
)
MOST_CHARACTERS = 6_144


def policies():
    return {name: body["Properties"]["PolicyDocument"] for name, body in resources("AWS::IAM::ManagedPolicy").items()}


def resolve(resource, tag=""):
    """Return a resource as a pattern, in which other resources stand by their logical ids."""
    if isinstance(resource, str):
        return resource
    if "Fn::Sub" not in resource:
        return referenced(resource)
    pattern = resource["Fn::Sub"].replace("${!aws:PrincipalTag/millrace-model}", tag or "no tag")
    return re.sub(r"\$\{(?:AWS::)?(\w+)(?:\.\w+)?\}", r"\1", pattern)


def allows(policy, action, resource, tag=MODEL):
    """Evaluate a policy as IAM does: no policy of ours has a refusal."""
    for statement in policies()[policy]["Statement"]:
        assert statement["Effect"] == "Allow"
        # The one condition is on the keys of a list of objects.
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource"} or statement["Sid"] == "ListArtifacts"
        if action in as_list(statement["Action"]) and any(
            fnmatchcase(resource, resolve(pattern, tag)) for pattern in as_list(statement["Resource"])
        ):
            return True
    return False


def requests(model):
    """Return every request that the API knows, as (method, path), for a model."""
    routes = {
        (event["Properties"]["Method"].upper(), event["Properties"]["Path"])
        for properties in functions().values()
        for event in properties.get("Events", {}).values()
        if event["Type"] == "Api"
    }
    values = {
        "model": model,
        "model_action": f"{model}:predict",
        "version": "3",
        "run_id": "r-1",
        "run": "m-1",
        "action": "abort",
    }
    filled = {(method, re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], "x"), path)) for method, path in routes}
    filled = {one for one in filled if "{" not in one[1] and one[0] != "ANY"}
    return sorted(filled | {("GET", f"/v1/models/{model}"), *mlflow_requests()})


def mlflow_requests():
    """Return the requests of MLflow's API, which one route of the gateway passes on."""
    for module in tracking_api.MODULES:
        for endpoint in module.ENDPOINTS:
            for method in endpoint.methods:
                yield method, f"/mlflow/api/{endpoint.api}/mlflow/{endpoint.path.replace('{', '').replace('}', '')}"


def may_request(policy, method, path, tag=MODEL):
    arn = f"arn:Partition:execute-api:Region:AccountId:Api/v1/{method}{path}"
    return allows(policy, "execute-api:Invoke", arn, tag)


def test_there_is_a_policy_for_each():
    assert set(policies()) == set(REQUESTS) == set(READABLE)


@pytest.mark.parametrize("policy", sorted(REQUESTS))
class TestEveryRequest:
    def test_is_allowed_or_denied(self, policy):
        for model in (MODEL, OTHER):
            for method, path in requests(model):
                expected = re.fullmatch(REQUESTS[policy], f"{method} {path}") is not None
                assert may_request(policy, method, path) == expected, f"{method} {path}"


class TestOneModel:
    def test_without_a_tag_there_is_no_model(self):
        for method, path in requests(MODEL):
            expected = re.fullmatch(STATE, f"{method} {path}") is not None
            assert may_request("ApplicationOfOneModelPolicy", method, path, tag="") == expected, path

    def test_a_name_that_begins_alike_is_another_model(self):
        for method, path in requests(f"{MODEL}2"):
            expected = re.fullmatch(STATE, f"{method} {path}") is not None
            assert may_request("ApplicationOfOneModelPolicy", method, path) == expected, path


@pytest.mark.parametrize("policy", sorted(READABLE))
class TestObjects:
    def test_are_read_or_not(self, policy):
        for key in [UPLOAD, ARTIFACT, *ROWS, *CAPTURED, *DOCUMENTS, *TRIALS]:
            expected = key in READABLE[policy]
            bucket = key.partition("/")[0]
            assert allows(policy, "s3:GetObject", key.replace(bucket, bucket, 1)) == expected, key

    def test_are_written_by_uploads_alone(self, policy):
        for key in [UPLOAD, ARTIFACT, *ROWS, *CAPTURED, *DOCUMENTS, *TRIALS]:
            expected = (policy, key) in {("DataScientistPolicy", UPLOAD), ("MlflowUserPolicy", ARTIFACT)}
            assert allows(policy, "s3:PutObject", key) == expected, key
            assert not allows(policy, "s3:DeleteObject", key)


def test_an_auditor_changes_nothing():
    for statement in policies()["AuditorPolicy"]["Statement"]:
        assert not [action for action in as_list(statement["Action"]) if CHANGING.search(action)]


def test_logs_are_read_by_a_policy_that_says_so():
    # The log of predict holds captured rows.
    for name, policy in policies().items():
        actions = [action for statement in policy["Statement"] for action in as_list(statement["Action"])]
        assert any(action.startswith("logs:") for action in actions) == (name == "LogReaderPolicy"), name
    readable = policies()["LogReaderPolicy"]["Statement"][0]["Resource"]
    assert {referenced(group) for group in readable} == set(resources("AWS::Logs::LogGroup"))


def test_nobody_reaches_the_registry_table_or_passes_a_role():
    actions = {action for policy in policies().values() for s in policy["Statement"] for action in as_list(s["Action"])}
    assert not [action for action in actions if action.startswith(("dynamodb:", "iam:", "sts:"))]


def test_policies_fit():
    lengths = {"LogGroup": 128 + 60, "Function": 130, "Bucket": 63, "Queue": 120, "Pipeline": 130}
    for name, policy in policies().items():
        text = json.dumps(policy, separators=(",", ":"))
        text = re.sub(r'\{"Fn::Sub":("[^"]*")\}', r"\1", text)
        text = re.sub(
            r'\{"(?:Ref|Fn::GetAtt)":\[?"(\w+)"[^}]*\}',
            lambda m: '"' + "x" * next(size for end, size in lengths.items() if m[1].endswith(end)) + '"',
            text,
        )
        for pseudo, size in {"StackName": 128, "Partition": 10, "Region": 14, "AccountId": 12}.items():
            text = text.replace(f"${{AWS::{pseudo}}}", "x" * size)
        text = re.sub(r"\$\{(\w+)(?:\.\w+)?\}", lambda m: "x" * (10 if m[1] == "Api" else 63), text)
        assert len(text) <= MOST_CHARACTERS, (name, len(text))


def test_each_is_an_output_and_in_the_documentation():
    documented = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    outputs = {name: body["Value"] for name, body in load_template()["Outputs"].items()}
    for name in policies():
        assert outputs[f"{name}Arn"] == {"Ref": name}
        assert f"`{name}`" in documented, name
