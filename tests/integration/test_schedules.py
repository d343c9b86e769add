"""Models' own schedules: in memory and on moto's EventBridge Scheduler."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.stub import Stubber
from millrace.aws.schedules import EventBridgeSchedules
from millrace.errors import ConfigurationError, InvalidInputError
from millrace.ports import Schedule, Schedules
from millrace.registry.model_schedules import apply_schedules
from millrace.settings import ScheduleSettings
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.fakes.memory_schedules import MemorySchedules

GROUP = "millrace-retraining"
SETTINGS = ScheduleSettings(
    retraining_schedule_group=GROUP,
    retraining_target_arn="arn:aws:lambda:eu-west-1:123456789012:function:request_training",
    retraining_schedule_role_arn="arn:aws:iam::123456789012:role/retraining",
    monitoring_schedule_group="millrace-monitoring",
    monitoring_target_arn="arn:aws:states:eu-west-1:123456789012:stateMachine:millrace-monitoring",
    monitoring_schedule_role_arn="arn:aws:iam::123456789012:role/monitoring",
    scoring_schedule_group="millrace-scoring",
    scoring_target_arn="arn:aws:lambda:eu-west-1:123456789012:function:request_scoring",
    scoring_schedule_role_arn="arn:aws:iam::123456789012:role/scoring",
    schedule_dead_letter_arn="arn:aws:sqs:eu-west-1:123456789012:undelivered",
)


def weekly(model: str = "churn", expression: str = "rate(7 days)") -> Schedule:
    return Schedule(model, "retraining", expression, "Europe/Berlin")


@pytest.fixture(params=["memory", "scheduler"])
def schedules(request, isolated_from_aws) -> Iterator[Schedules]:
    if request.param == "memory":
        yield MemorySchedules()
        return
    with mock_aws():
        client = boto3.client("scheduler")
        for group in (GROUP, "millrace-monitoring", "millrace-scoring"):
            client.create_schedule_group(Name=group)
        yield EventBridgeSchedules(client, SETTINGS)


class TestSchedules:
    def test_a_schedule_comes_back_as_it_was_put(self, schedules):
        assert schedules.get("churn", "retraining") is None
        schedules.put(weekly())
        schedules.put(weekly("Churn_2", "cron(0 6 ? * MON *)"))
        assert schedules.get("churn", "retraining") == weekly()
        assert schedules.get("Churn_2", "retraining") == weekly("Churn_2", "cron(0 6 ? * MON *)")

    def test_a_model_has_one_schedule_a_purpose(self, schedules):
        schedules.put(weekly())
        schedules.put(weekly(expression="rate(1 day)"))
        assert schedules.get("churn", "retraining") == weekly(expression="rate(1 day)")

    def test_a_schedule_can_be_removed_twice(self, schedules):
        schedules.put(weekly())
        schedules.delete("churn", "retraining")
        schedules.delete("churn", "retraining")
        assert schedules.get("churn", "retraining") is None


class TestFollowingTheSpec:
    def spec(self, **said):
        return ModelSpec.parse({"retraining": said})

    def test_schedules_are_made_changed_and_removed_with_the_spec(self, schedules):
        assert apply_schedules("churn", self.spec(), schedules) == []
        assert apply_schedules("churn", self.spec(schedule="rate(7 days)"), schedules) == [
            "retraining: none -> rate(7 days) (UTC)"
        ]
        assert apply_schedules("churn", self.spec(schedule="rate(7 days)"), schedules) == []
        changed = self.spec(schedule="rate(7 days)", time_zone="Asia/Tokyo")
        assert apply_schedules("churn", changed, schedules) == [
            "retraining: rate(7 days) (UTC) -> rate(7 days) (Asia/Tokyo)"
        ]
        assert apply_schedules("churn", self.spec(), schedules) == ["retraining: rate(7 days) (Asia/Tokyo) -> none"]
        assert schedules.get("churn", "retraining") is None

    def test_each_purpose_has_its_own_and_what_is_switched_off_has_none(self, schedules):
        said = {"monitoring": {"schedule": "rate(1 hour)"}, "retraining": {"schedule": "rate(7 days)"}}
        apply_schedules("churn", ModelSpec.parse(said), schedules)
        assert schedules.get("churn", "monitoring") == Schedule("churn", "monitoring", "rate(1 hour)")
        assert schedules.get("churn", "retraining") == Schedule("churn", "retraining", "rate(7 days)")
        said["monitoring"]["enabled"] = False
        assert apply_schedules("churn", ModelSpec.parse(said), schedules) == ["monitoring: rate(1 hour) (UTC) -> none"]
        assert schedules.get("churn", "retraining") is not None
        said["scoring"] = {"schedule": "rate(1 day)", "source": "nightly", "time_zone": "Asia/Tokyo"}
        assert apply_schedules("churn", ModelSpec.parse(said), schedules) == [
            "scoring: none -> rate(1 day) (Asia/Tokyo)"
        ]
        assert apply_schedules("churn", None, schedules)[-1] == "scoring: rate(1 day) (Asia/Tokyo) -> none"

    def test_a_model_that_is_gone_leaves_none(self, schedules):
        apply_schedules("churn", self.spec(schedule="rate(7 days)"), schedules)
        apply_schedules("other", self.spec(schedule="rate(7 days)"), schedules)
        apply_schedules("churn", None, schedules)
        assert schedules.get("churn", "retraining") is None
        assert schedules.get("other", "retraining") is not None


class TestScheduler:
    @pytest.mark.parametrize("first", ["cron(0 6 ? * MON *)", "rate(1 day)"])
    def test_a_rate_fires_first_after_its_period_also_when_it_is_changed(self, isolated_from_aws, first):
        with mock_aws():
            client = boto3.client("scheduler")
            client.create_schedule_group(Name=GROUP)
            schedules = EventBridgeSchedules(client, SETTINGS)
            schedules.put(weekly(expression=first))
            before = datetime.now(UTC).replace(microsecond=0)
            schedules.put(weekly(expression="rate(7 days)"))
            starts = client.get_schedule(GroupName=GROUP, Name="churn")["StartDate"]
            assert before <= starts - timedelta(days=7) <= datetime.now(UTC)
            schedules.put(weekly(expression="cron(0 6 ? * MON *)"))
            with pytest.raises(InvalidInputError, match="is refused as a schedule"):
                schedules.put(weekly(expression="rate(999999999999 days)"))

    def test_a_schedule_starts_the_function_as_the_template_says(self, isolated_from_aws):
        with mock_aws():
            client = boto3.client("scheduler")
            client.create_schedule_group(Name=GROUP)
            EventBridgeSchedules(client, SETTINGS).put(weekly())
            found = client.get_schedule(GroupName=GROUP, Name="churn")
        assert (found["State"], found["FlexibleTimeWindow"]) == ("ENABLED", {"Mode": "OFF"})
        target = found["Target"]
        assert target["Arn"] == SETTINGS.retraining_target_arn
        assert target["RoleArn"] == SETTINGS.retraining_schedule_role_arn
        assert target["DeadLetterConfig"] == {"Arn": SETTINGS.schedule_dead_letter_arn}
        assert json.loads(target["Input"]) == {
            "source": "millrace.schedule",
            "schedule": "millrace-retraining/churn",
            "model": "churn",
            "time": "<aws.scheduler.scheduled-time>",
        }

    @pytest.mark.parametrize(
        ("code", "error"), [("ValidationException", InvalidInputError), ("AccessDeniedException", ConfigurationError)]
    )
    def test_a_refusal_says_whose_fault_it_is(self, isolated_from_aws, code, error):
        client = boto3.client("scheduler", region_name="eu-west-1")
        with Stubber(client) as stubber:
            stubber.add_client_error("get_schedule", "ResourceNotFoundException", http_status_code=404)
            stubber.add_client_error("create_schedule", code, http_status_code=400)
            with pytest.raises(error):
                EventBridgeSchedules(client, SETTINGS).put(weekly())
