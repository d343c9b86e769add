import pytest
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec


@pytest.mark.parametrize(
    "expression",
    ["rate(1 day)", "rate(12 hours)", "cron(0 6 ? * MON-FRI *)", "cron(0/15 * 1 * ? 2027)", "at(2027-01-31T06:00:00)"],
)
def test_a_schedule_is_kept_as_it_was_said(expression):
    spec = ModelSpec.parse({"retraining": {"schedule": f" {expression} ", "time_zone": "Europe/Berlin"}})
    assert (spec.retraining.schedule, spec.retraining.time_zone) == (expression, "Europe/Berlin")


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("every day", "is no schedule"),
        ("rate(0 days)", "at least 1"),
        ("rate(1 days)", "singular"),
        ("rate(2 day)", "singular"),
        ("rate(1 week)", "is no schedule"),
        ("cron(0 6 * * *)", "six fields"),
        ("cron(0 6 * * * *)", "exactly one"),
        ("cron(0 6 ? * ? *)", "exactly one"),
        ("cron(0 6 ? * M{N *)", "six fields"),
        ("at(2027-02-31T06:00:00)", "retraining.schedule"),
    ],
)
def test_what_the_scheduler_would_not_take_is_refused_with_an_example(expression, fault):
    with pytest.raises(InvalidInputError, match=fault):
        ModelSpec.parse({"retraining": {"schedule": expression}})


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", ""])
def test_a_time_zone_has_to_exist(name):
    with pytest.raises(InvalidInputError, match=r"retraining\.time_zone"):
        ModelSpec.parse({"retraining": {"schedule": "rate(1 day)", "time_zone": name}})
