"""The registry's tables, as the template makes them."""

import boto3

TABLE_NAME = "millrace-registry"
RUNS_TABLE_NAME = "millrace-runs"
TRACKING_TABLE_NAME = "millrace-tracking"


def create_table() -> None:
    """Create the tables in the account that is mocked now."""
    for name in (TABLE_NAME, RUNS_TABLE_NAME, TRACKING_TABLE_NAME):
        _create(name)


def _create(name: str) -> None:
    boto3.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
    )
