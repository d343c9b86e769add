"""Each function has the permissions that the boto3 calls of its code need."""

import ast

import pytest
from millrace.training.planning import LOGGED_TRIAL

from tests.template.aws_calls import ACTIONS, ADAPTERS, AWS, REGISTRY, boto_calls, handler_actions, parse
from tests.template.table_access import grants, is_granted
from tests.template.template_file import ROOT, as_list, functions, load_template, walk

#: Methods that stand in a module that a handler imports, and that the handler never calls.
NOT_CALLED = {
    "ManageModelsFunction": {
        "event_publisher.publish": "requests of replays, beside the routes that read",
        "object_store.put": "writing of documents, beside their reading",
        "object_store.put_if_unchanged": "writing of documents, beside their reading",
        "object_store.find_version": "versions of uploads, beside the reading of causes",
        "registry.file_notes": "the end of a run, beside the descriptions of runs",
        "registry.set_schema_version": "validation, beside the descriptions of schemas",
        "registry.release_run": "the end of a run, beside the descriptions of runs",
        "registry.skip_pending_cause": "the end of a run, beside the descriptions of runs",
    },
    "DeliverCapturesFunction": {"registry_store.query": "reading of activity and traffic, beside their recording"},
    "FindDueModelsFunction": {
        "registry_store.write Update": "marks of activity and of monitoring runs, beside their reading",
        "registry_store.get": "the begin of a monitoring run, beside the models that are due",
    },
    "RecordFeedbackFunction": {"registry_store.query": "reading of activity, beside its marking"},
    "RequestScoringFunction": {
        "registry.list_pending_causes": "causes of training, beside the record of refused uploads",
        "registry.find_causes": "causes of training, beside the record of refused uploads",
    },
    "ReplayCapturesFunction": {
        "registry.commit": "changes of releases, beside their reading",
        "registry_store.write Update": "recording of traffic, beside its reading",
    },
    "ServeMlflowFunction": {
        "object_store.find_version": "versions of uploads, beside the causes of proposed models",
        "training_pipeline.stop": "the end of models, beside the start of runs",
    },
    "ChangeModelsFunction": {"schedules.put": "schedules follow specs, which manage_models changes"},
}


#: Of a function that reads objects, and no call names them: S3 reports a missing object as forbidden without the first,
#: and checks the others on the version and the key of an object.
READING = {"s3:ListBucket", "s3:GetObjectVersion", "kms:Decrypt"}


def allowed_actions(properties):
    return {
        action
        for part in walk(properties["Policies"])
        if isinstance(part, dict) and part.get("Effect") == "Allow"
        for action in as_list(part["Action"])
    }


@pytest.mark.parametrize("logical_id", sorted(functions()))
class TestFunction:
    def needed(self, logical_id):
        unused = NOT_CALLED.get(logical_id, {})
        needed = handler_actions(ROOT / functions()[logical_id]["CodeUri"] / "app.py")
        return {action: callers - set(unused) for action, callers in needed.items() if callers - set(unused)}

    def test_may_do_all_that_it_asks_for(self, logical_id):
        needed = self.needed(logical_id)
        missing = set(needed) - allowed_actions(functions()[logical_id])
        assert {action: needed[action] for action in missing} == {}

    def test_may_do_nothing_else(self, logical_id):
        allowed, needed = allowed_actions(functions()[logical_id]), set(self.needed(logical_id))
        assert allowed - needed - (READING if "s3:GetObject" in allowed else set()) == set()


WRITES = ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem")
#: They read files of users, with much code in C and C++ that could be made to do anything.
PARSERS = (
    "ValidateDatasetFunction",
    "PlanTrainingFunction",
    "TrainCandidateFunction",
    "EvaluateCandidatesFunction",
    "PlanScoringFunction",
)
ACTING = (
    "RequestTrainingFunction",
    "RegisterModelFunction",
    "RequestApprovalFunction",
    "ManageModelsFunction",
    "ChangeModelsFunction",
    "EvaluateReleaseFunction",
    "RequestScoringFunction",
    "FinishScoringFunction",
    "ServeMlflowFunction",
)


def writers(table: str, *actions: str) -> set[str]:
    return {name for name in functions() if {(g.action, g.table) for g in grants(name)} & {(a, table) for a in actions}}


class TestTables:
    def test_no_function_may_do_everything(self):
        actions = {grant.action for name in functions() for grant in grants(name)}
        assert not [action for action in actions if "*" in action]
        assert not {"dynamodb:BatchWriteItem", "dynamodb:PartiQLUpdate", "dynamodb:PartiQLInsert"} & actions

    @pytest.mark.parametrize("name", PARSERS)
    def test_a_function_that_reads_files_of_users_writes_runs_and_nothing_else(self, name):
        written = {(grant.action, grant.table) for grant in grants(name) if grant.action in WRITES}
        assert written <= {("dynamodb:PutItem", "RunsTable"), ("dynamodb:UpdateItem", "RunsTable")}

    @pytest.mark.parametrize("name", PARSERS)
    def test_and_of_these_neither_when_models_are_monitored_nor_their_traffic(self, name):
        for action in WRITES:
            assert not any(
                is_granted(name, action, "RunsTable", partition) for partition in ("MONITORING", "TRAFFIC#m")
            )
        assert is_granted(name, "dynamodb:UpdateItem", "RunsTable", "MODEL#m")

    def test_the_functions_of_monitoring_write_when_models_are_monitored_and_nothing_else_of_the_tables(self):
        for name in ("MonitorModelFunction", "FindDueModelsFunction"):
            written = {(grant.table, grant.partitions) for grant in grants(name) if grant.action in WRITES}
            assert written <= {("RunsTable", ("MONITORING",)), ("RegistryTable", ("OUTBOX",))}
        assert {grant.action for grant in grants("FindDueModelsFunction")} == {"dynamodb:Query", "dynamodb:DeleteItem"}

    def test_the_schedule_of_monitoring_invokes_one_function_and_may_do_nothing_else(self):
        found = load_template()["Resources"]
        target = found["MonitoringScheduleResource"]["Properties"]["Target"]
        assert target["Arn"] == {"Fn::GetAtt": ["FindDueModelsFunction", "Arn"]}
        (policy,) = found[target["RoleArn"]["Fn::GetAtt"][0]]["Properties"]["Policies"]
        allowed = {(one["Action"], str(one["Resource"])) for one in policy["PolicyDocument"]["Statement"]}
        assert allowed == {
            ("lambda:InvokeFunction", str(target["Arn"])),
            ("sqs:SendMessage", str(target["DeadLetterConfig"]["Arn"])),
        }

    def test_aliases_versions_and_the_ledger_are_written_by_acting_functions_alone(self):
        assert writers("RegistryTable", "dynamodb:PutItem", "dynamodb:UpdateItem") == set(ACTING)

    @pytest.mark.parametrize("name", sorted(functions()))
    def test_nothing_is_deleted_from_the_registry_but_what_waits(self, name):
        deleted = {
            partition
            for grant in grants(name)
            if (grant.action, grant.table) == ("dynamodb:DeleteItem", "RegistryTable")
            for partition in grant.partitions
        }
        assert deleted <= {"OUTBOX", "PENDING#*"}


def test_every_call_has_its_actions():
    calls = {call for path in [*AWS.glob("*.py"), *REGISTRY] for call in boto_calls(parse(path))}
    assert calls == {call for _, call in ACTIONS}


def test_every_factory_is_known():
    factories = {
        part.name
        for part in parse(AWS / "clients.py").body
        if isinstance(part, ast.FunctionDef) and part.returns and not part.name.startswith("_")
    }
    assert factories - {"clear_clients"} == set(ADAPTERS)


def test_exceptions_are_needed():
    for logical_id, unused in NOT_CALLED.items():
        needed = handler_actions(ROOT / functions()[logical_id]["CodeUri"] / "app.py")
        assert set(unused) <= set().union(*needed.values()), logical_id


def test_no_function_has_a_permission_elsewhere():
    # Policies of functions stand with the functions: the other roles are those of the pipelines and the schedules.
    roles = [name for name, body in load_template()["Resources"].items() if body["Type"] == "AWS::IAM::Role"]
    assert sorted(roles) == [
        "DueModelsScheduleRole",
        "MonitoringPipelineRole",
        "MonitoringScheduleRole",
        "ReleaseScheduleRole",
        "RetrainingPipelineRole",
        "RetrainingScheduleRole",
        "ScoringPipelineRole",
        "ScoringScheduleRole",
        "TrainingPipelineRole",
    ]


def test_policies_name_the_trial_of_a_logged_model() -> None:
    """What the check may write, and the trial's record may read, is the model of that one trial."""
    text = (ROOT / "template.yaml").read_text()
    assert text.count(f"/*/runs/*/{LOGGED_TRIAL}/model.onnx") == text.count("-mlflow/model.onnx") == 2
