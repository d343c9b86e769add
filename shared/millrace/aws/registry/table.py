"""One DynamoDB table: reads, conditional writes and transactions, with our errors."""

import random
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from millrace.aws.errors import aws_errors, cancellation_codes, error_code
from millrace.aws.registry.keys import Key
from millrace.aws.registry.serialisation import Item, encode_value
from millrace.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        QueryInputTypeDef,
        TransactWriteItemTypeDef,
    )

CONDITION_FAILED = "ConditionalCheckFailed"
_MAX_ATTEMPTS = 8
_FIRST_PAUSE_SECONDS = 0.02
#: Why a transaction is cancelled although nothing is wrong with it.
_CONTENTION = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


class Table:
    """A table with string keys ``pk`` and ``sk``. Reads are consistent: decisions are made on them."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def get(self, key: Key) -> Item | None:
        """Return an item, or None."""
        with aws_errors("DynamoDB"):
            return self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item")

    def query(
        self, partition: str, prefix: str, *, newest_first: bool = False, limit: int | None = None
    ) -> Iterator[Item]:
        """Yield the items of a partition whose sort key starts with ``prefix``, page after page."""
        # A key condition may not begin with nothing.
        arguments: QueryInputTypeDef = {
            "TableName": self._name,
            "KeyConditionExpression": "pk = :partition" + (" AND begins_with(sk, :prefix)" if prefix else ""),
            "ExpressionAttributeValues": {":partition": {"S": partition}}
            | ({":prefix": {"S": prefix}} if prefix else {}),
            "ConsistentRead": True,
            "ScanIndexForward": not newest_first,
        }
        remaining = limit
        while remaining is None or remaining > 0:
            if remaining is not None:
                arguments["Limit"] = remaining
            with aws_errors("DynamoDB"):
                page = self._client.query(**arguments)
            yield from page["Items"]
            if not page.get("LastEvaluatedKey"):
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
            if remaining is not None:
                remaining -= len(page["Items"])

    def last_before(self, partition: str, lowest: str, highest: str) -> Item | None:
        """Return the item with the greatest sort key from ``lowest`` to ``highest``, both included: one query."""
        with aws_errors("DynamoDB"):
            page = self._client.query(
                TableName=self._name,
                KeyConditionExpression="pk = :partition AND sk BETWEEN :lowest AND :highest",
                ExpressionAttributeValues={
                    ":partition": {"S": partition},
                    ":lowest": {"S": lowest},
                    ":highest": {"S": highest},
                },
                ConsistentRead=True,
                ScanIndexForward=False,
                Limit=1,
            )
        return next(iter(page["Items"]), None)

    def delete(self, key: Key) -> None:
        """Delete an item, if there is one."""
        with aws_errors("DynamoDB"):
            self._client.delete_item(TableName=self._name, Key=key)

    def put(self, item: Item) -> None:
        """Write an item, whatever was there."""
        with aws_errors("DynamoDB"):
            self._client.put_item(TableName=self._name, Item=item)

    def put_new(self, item: Item) -> bool:
        """Write an item; False, changing nothing, when there is one already."""
        with aws_errors("DynamoDB"):
            try:
                self._client.put_item(TableName=self._name, Item=item, ConditionExpression="attribute_not_exists(pk)")
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return False
                raise
        return True

    def change(self, key: Key, changes: dict[str, Any], condition: str = "attribute_exists(pk)", **values: Any) -> bool:
        """Set attributes of an item (None removes one); False, changing nothing, unless the condition holds."""
        expression, names, attribute_values = set_expression(changes)
        attribute_values |= {f":{name}": encode_value(value) for name, value in values.items()}
        return self._update(key, expression, condition, names, attribute_values) is not None

    def increment(self, key: Key, attribute: str) -> int | None:
        """Add one to a counter of an item and return it; None when there is no such item."""
        attributes = self._update(
            key, "ADD #counter :one", "attribute_exists(pk)", {"#counter": attribute}, {":one": {"N": "1"}}
        )
        return None if attributes is None else int(attributes[attribute]["N"])

    def _update(
        self,
        key: Key,
        expression: str,
        condition: str,
        names: dict[str, str],
        values: "dict[str, AttributeValueTypeDef]",
    ) -> Item | None:
        arguments: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
        with aws_errors("DynamoDB"):
            try:
                return self._client.update_item(
                    TableName=self._name,
                    Key=key,
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ReturnValues="UPDATED_NEW",
                    **arguments,
                ).get("Attributes", {})
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return None
                raise

    def transact(self, actions: "Sequence[TransactWriteItemTypeDef]") -> list[int]:
        """Do all of ``actions`` or none; return the positions of those whose condition failed (none: it is done).

        A transaction that only met another one on the same items is tried again, after a growing pause.

        Raises
        ------
        ServiceUnavailableError
            When it met others every time.
        """
        for attempt in range(_MAX_ATTEMPTS):
            with aws_errors("DynamoDB"):
                try:
                    self._client.transact_write_items(TransactItems=actions)
                except ClientError as error:
                    codes = cancellation_codes(error) if error_code(error) == "TransactionCanceledException" else []
                    if failed := [position for position, code in enumerate(codes) if code == CONDITION_FAILED]:
                        return failed
                    if not _CONTENTION.intersection(codes):
                        raise
                else:
                    return []
            pause(attempt)
        raise ServiceUnavailableError("DynamoDB could not finish a transaction beside others on the same items")

    # -- actions of a transaction ------------------------------------------------------------------------------
    def putting(self, item: Item) -> "TransactWriteItemTypeDef":
        """Return the action that writes an item, whatever was there."""
        return {"Put": {"TableName": self._name, "Item": item}}

    def putting_new(self, item: Item) -> "TransactWriteItemTypeDef":
        """Return the action that writes an item which must not be there."""
        return {
            "Put": {"TableName": self._name, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"},
        }

    def deleting(self, key: Key) -> "TransactWriteItemTypeDef":
        """Return the action that deletes an item which must be there."""
        return {"Delete": {"TableName": self._name, "Key": key, "ConditionExpression": "attribute_exists(pk)"}}

    def checking(
        self,
        key: Key,
        condition: str = "attribute_exists(pk)",
        values: dict[str, Any] | None = None,
        names: dict[str, str] | None = None,
    ) -> "TransactWriteItemTypeDef":
        """Return the action that does nothing but insist on ``condition``; ``values`` by name without colon."""
        action: TransactWriteItemTypeDef = {
            "ConditionCheck": {"TableName": self._name, "Key": key, "ConditionExpression": condition}
        }
        if values:
            action["ConditionCheck"]["ExpressionAttributeValues"] = {
                f":{name}": encode_value(value) for name, value in values.items()
            }
        if names:
            action["ConditionCheck"]["ExpressionAttributeNames"] = names
        return action

    def updating(
        self,
        key: Key,
        expression: str,
        condition: str | None,
        values: dict[str, Any],
        names: dict[str, str] | None = None,
    ) -> "TransactWriteItemTypeDef":
        """Return the action that updates an item when ``condition`` holds; ``values`` by name without colon.

        Without a condition it is updated whatever it holds, and made when it is not there.
        """
        action: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._name,
                "Key": key,
                "UpdateExpression": expression,
                "ExpressionAttributeValues": {
                    f":{name}": value if isinstance(value, dict) else encode_value(value)
                    for name, value in values.items()
                },
            }
        }
        if condition is not None:
            action["Update"]["ConditionExpression"] = condition
        if names:
            action["Update"]["ExpressionAttributeNames"] = names
        return action


class TableItems:
    """Base of everything that keeps its items in the table."""

    def __init__(self, table: Table) -> None:
        self._table = table


def set_expression(changes: dict[str, Any]) -> "tuple[str, dict[str, str], dict[str, AttributeValueTypeDef]]":
    """Return an update expression, its names and its values; None removes an attribute."""
    names = {f"#{name}": name for name in changes}
    values = {f":{name}": encode_value(value) for name, value in changes.items() if value is not None}
    parts = []
    if values:
        parts.append("SET " + ", ".join(f"#{name[1:]} = {name}" for name in values))
    if removed := [name for name, value in changes.items() if value is None]:
        parts.append("REMOVE " + ", ".join(f"#{name}" for name in removed))
    return " ".join(parts), names, values


def pause(attempt: int) -> None:
    """Wait before the next attempt: twice as long as before, give or take, so that rivals part."""
    time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311  # jitter is no secret
