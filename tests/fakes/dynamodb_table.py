"""The registry's table, as the template makes it."""

import boto3

TABLE_NAME = "millrace-registry"


def create_table(name: str = TABLE_NAME) -> None:
    """Create the table in the account that is mocked now."""
    boto3.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
    )
