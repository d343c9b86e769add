"""Batch scoring in the template: what no emulator checks. Neither moto nor MiniStack looks at a machine's role."""

import json
from fnmatch import fnmatchcase

import pytest
from millrace.batch.job import MAX_LANE_PARTS
from millrace.layout import SCORE_PREFIX, SCORED_PREFIX, incoming_key, job_key, receipt_key, scored_prefix

from tests.template.table_access import may_use_object, object_grants
from tests.template.template_file import ROOT, as_list, functions, load_template, walk

JOB = "b-20260503T141500-0f3a9c2b7d1e"
MACHINE = json.loads((ROOT / "statemachines" / "scoring.asl.json").read_text(encoding="utf-8"))
#: Of Step Functions.
MAX_EVENTS = 25_000
#: Of a part without a retry: MapIterationStarted, TaskStateEntered, TaskScheduled, TaskStarted, TaskSucceeded,
#: TaskStateExited, MapIterationSucceeded; and of a retry: TaskFailed, TaskScheduled, TaskStarted.
EVENTS_A_PART, EVENTS_A_RETRY = 7, 3


def statements(name):
    """Return (action, resource) of the allowed statements of a role or a policy."""
    properties = load_template()["Resources"][name]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [properties])]
    return {
        (action, json.dumps(resource, sort_keys=True))
        for document in documents
        for statement in document["Statement"]
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def shown(resource):
    return json.dumps(resource, sort_keys=True)


class TestRoleOfTheMachine:
    def test_it_may_invoke_the_functions_of_its_states_and_read_the_list_of_lanes(self):
        allowed = {one for one in statements("ScoringPipelineRole") if not one[0].startswith(("xray:", "logs:"))}
        steps = ("PlanScoringFunction", "ScorePartFunction", "FinishScoringFunction")
        assert allowed == {
            *(("lambda:InvokeFunction", shown({"Fn::GetAtt": [name, "Arn"]})) for name in steps),
            ("s3:GetObject", shown({"Fn::Sub": "${DataBucket.Arn}/jobs/*/lanes.json"})),
        }
        assert fnmatchcase(job_key(JOB, "lanes.json"), "jobs/*/lanes.json")

    def test_it_may_start_itself_and_watch_and_stop_its_children(self):
        policy = load_template()["Resources"]["ScoringPipelineChildrenPolicy"]
        assert policy["Type"] == "AWS::IAM::Policy", "in the role it would be circular"
        assert policy["Properties"]["Roles"] == [{"Ref": "ScoringPipelineRole"}]
        label = MACHINE["States"]["ScoreParts"]["Label"]
        executions = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${ScoringPipeline.Name}"
        children = [shown({"Fn::Sub": f"{executions}{own}:*"}) for own in ("", f"/{label}")]
        assert statements("ScoringPipelineChildrenPolicy") == {
            ("states:StartExecution", shown({"Ref": "ScoringPipeline"})),
            *((f"states:{action}Execution", one) for action in ("Describe", "Stop") for one in children),
        }

    def test_the_schedules_role_invokes_the_function_of_requests_alone(self):
        assert statements("ScoringScheduleRole") == {
            ("lambda:InvokeFunction", shown({"Fn::GetAtt": ["RequestScoringFunction", "Arn"]})),
            ("sqs:SendMessage", shown({"Fn::GetAtt": ["UndeliveredEventsQueue", "Arn"]})),
        }


class TestMachine:
    def test_it_uses_what_aws_and_the_emulators_run_alike(self):
        fields = {name for part in walk(MACHINE) if isinstance(part, dict) for name in part}
        assert not fields & {
            "ItemBatcher",
            "ItemsPointer",
            "MaxConcurrencyPath",
            "ResultWriter",
            "ToleratedFailureCount",
            "ToleratedFailurePercentage",
            "ToleratedFailurePercentagePath",
        }
        parts = MACHINE["States"]["ScoreParts"]
        assert parts["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
        assert parts["ItemReader"]["ReaderConfig"] == {"InputType": "JSON"}
        assert isinstance(parts["MaxConcurrency"], int)
        assert parts["MaxConcurrency"] > 0, "without, MiniStack starts 64 workers at once"

    def test_as_many_lanes_run_at_once_as_the_parameter_allows(self):
        parameter = load_template()["Parameters"]["ScoringConcurrency"]
        assert parameter["MaxValue"] <= MACHINE["States"]["ScoreParts"]["MaxConcurrency"]

    def test_children_return_nothing_because_an_execution_holds_256_kilobytes(self):
        parts = MACHINE["States"]["ScoreParts"]
        assert parts["ResultPath"] is None
        inner = parts["ItemProcessor"]["States"]
        ending = [*inner.values(), *inner["ScoreLane"]["ItemProcessor"]["States"].values()]
        assert len(ending) == 4
        assert all(state["End"] and state["OutputPath"] is None for state in ending)

    def test_the_history_of_a_lane_has_room_for_its_parts_and_a_retry_of_each(self):
        lane = MACHINE["States"]["ScoreParts"]["ItemProcessor"]["States"]["ScoreLane"]
        assert lane["MaxConcurrency"] == 1
        assert MAX_LANE_PARTS * (EVENTS_A_PART + EVENTS_A_RETRY) < MAX_EVENTS


class TestPlaces:
    def test_the_rule_takes_files_to_score_and_no_results(self):
        pattern = functions()["RequestScoringFunction"]["Events"]["FileToScore"]["Properties"]["Pattern"]
        (rule,) = pattern["detail"]["object"]["key"]
        assert rule == {"prefix": SCORE_PREFIX}
        for key in (scored_prefix("m", JOB), receipt_key(JOB, 0), incoming_key("m", "a.csv"), f"{SCORED_PREFIX}m/a"):
            assert not key.startswith(rule["prefix"])

    @pytest.mark.parametrize("name", sorted(functions()))
    def test_no_function_writes_what_would_start_a_job(self, name):
        writes = {grant for grant in object_grants(name) if grant[0] in ("s3:PutObject", "s3:DeleteObject")}
        assert not [grant for grant in writes if grant[1] == "DataBucket" and fnmatchcase("score/m/a.csv", grant[2])]

    def test_a_part_writes_results_and_receipts_and_the_plan_neither_of_them(self):
        result, receipt = f"{scored_prefix('m', JOB)}part-00000.parquet", receipt_key(JOB, 0)
        for key in (result, receipt):
            assert may_use_object("ScorePartFunction", "s3:PutObject", "DataBucket", key)
        assert not may_use_object("ScorePartFunction", "s3:PutObject", "DataBucket", job_key(JOB, "plan.json"))
        assert not may_use_object("PlanScoringFunction", "s3:PutObject", "DataBucket", result)
        assert not may_use_object("FinishScoringFunction", "s3:GetObject", "DataBucket", "score/m/a.csv")
        assert not may_use_object("RequestScoringFunction", "s3:GetObject", "DataBucket", "score/m/a.csv")


def test_a_part_runs_with_the_settings_that_its_benchmark_measures():
    variables = functions()["ScorePartFunction"]["Environment"]["Variables"]
    settings = ("OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "ARROW_DEFAULT_MEMORY_POOL")
    measured = (ROOT / "benchmarks" / "batch" / "compare.py").read_text(encoding="utf-8")
    for name in settings:
        assert f'"{name}": "{variables[name]}"' in measured
