"""What a function that keeps schedules finds in its environment, for tests on moto."""

import boto3

GROUP = "millrace-retraining"
ENVIRONMENT = {
    "RETRAINING_SCHEDULE_GROUP": GROUP,
    "RETRAINING_TARGET_ARN": "arn:aws:lambda:eu-west-1:123456789012:function:request_training",
    "RETRAINING_SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/retraining",
    "MONITORING_SCHEDULE_GROUP": "millrace-monitoring",
    "MONITORING_TARGET_ARN": "arn:aws:states:eu-west-1:123456789012:stateMachine:millrace-monitoring",
    "MONITORING_SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/monitoring",
    "SCORING_SCHEDULE_GROUP": "millrace-scoring",
    "SCORING_TARGET_ARN": "arn:aws:lambda:eu-west-1:123456789012:function:request_scoring",
    "SCORING_SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/scoring",
    "RELEASE_SCHEDULE_GROUP": "millrace-releases",
    "RELEASE_SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/releases",
    "SCHEDULE_DEAD_LETTER_ARN": "arn:aws:sqs:eu-west-1:123456789012:undelivered",
}


def create_groups() -> None:
    """Create the schedule groups, on moto."""
    for purpose in ("RETRAINING", "MONITORING", "SCORING", "RELEASE"):
        boto3.client("scheduler").create_schedule_group(Name=ENVIRONMENT[f"{purpose}_SCHEDULE_GROUP"])
