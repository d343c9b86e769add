"""The registry's store on DynamoDB tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from millrace.aws.client_errors import aws_errors, cancellation_codes, error_code
from millrace.ports import (
    Absent,
    AttributePath,
    Check,
    Condition,
    Default,
    Delete,
    Exists,
    Item,
    Key,
    Plus,
    Put,
    StoreChange,
    Table,
    Update,
)
from millrace.retry import retry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

_CONDITION_FAILED = "ConditionalCheckFailed"
#: Of one call of BatchGetItem.
_BATCH_KEYS = 100
#: The codes of a cancelled transaction that succeeds when it is repeated.
_CONTENTION = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


class DynamoRegistryStore:
    """Implements :class:`millrace.ports.RegistryStore`.

    Parameters
    ----------
    registry_table, runs_table, tracking_table : str
        Tables with string keys ``pk`` and ``sk``; the registry's has TTL on ``expires_at``. Most functions know no
        tracking table.
    """

    def __init__(
        self, client: "DynamoDBClient", registry_table: str, runs_table: str, tracking_table: str = ""
    ) -> None:
        self._client = client
        self._names: dict[Table, str] = {"registry": registry_table, "runs": runs_table, "tracking": tracking_table}

    def get(self, key: Key) -> Item | None:
        """Return an item, or None."""
        with aws_errors("DynamoDB"):
            found = self._client.get_item(TableName=self._names[key.table], Key=_key(key), ConsistentRead=True)
        item = found.get("Item")
        return None if item is None else _from_attributes(item)

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        """Return the items of keys, in their order; see :meth:`millrace.ports.RegistryStore.get_many`."""
        found: dict[Key, Item] = {}
        waiting = list(dict.fromkeys(keys))

        def attempt() -> bool | None:
            """Read until nothing is left; None after a call that read nothing, because the table is busy."""
            while waiting:
                batch = waiting[:_BATCH_KEYS]
                read, left = self._get_batch(batch)
                found.update(read)
                waiting[: len(batch)] = [key for key in batch if key in left]
                if len(left) == len(batch):
                    return None
            return True

        retry(attempt, "DynamoDB is too busy to read a batch of items")
        return [found.get(key) for key in keys]

    def _get_batch(self, keys: Sequence[Key]) -> tuple[dict[Key, Item], set[Key]]:
        """Return the items that were read, and the keys that were not processed: answers are bounded."""
        tables = {name: table for table, name in self._names.items()}
        requested: Any = {
            self._names[table]: {"Keys": [_key(key) for key in keys if key.table == table], "ConsistentRead": True}
            for table in {key.table for key in keys}
        }
        with aws_errors("DynamoDB"):
            response = self._client.batch_get_item(RequestItems=requested)

        def keys_of(name: str, items: Iterable[Mapping[str, Any]]) -> Iterator[Key]:
            return (Key(item["pk"]["S"], item["sk"]["S"], tables[name]) for item in items)

        read: dict[Key, Item] = {}
        for name, items in response.get("Responses", {}).items():
            read |= zip(keys_of(name, items), map(_from_attributes, items), strict=True)
        unprocessed = response.get("UnprocessedKeys", {}).items()
        return read, {key for name, part in unprocessed for key in keys_of(name, part["Keys"])}

    def query(
        self,
        partition: str,
        prefix: str = "",
        *,
        up_to: str | None = None,
        after: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        table: Table = "registry",
    ) -> Iterator[Item]:
        """Yield items page after page; see :meth:`millrace.ports.RegistryStore.query`."""
        if limit == 0:  # DynamoDB refuses a page without items
            return
        condition, values = "pk = :partition", {":partition": partition}
        # A key condition may not begin with nothing.
        if up_to is not None:
            condition, values = f"{condition} AND sk BETWEEN :prefix AND :up_to", {**values, ":up_to": up_to}
        elif prefix:
            condition += " AND begins_with(sk, :prefix)"
        if up_to is not None or prefix:
            values[":prefix"] = prefix
        arguments: Any = {
            "TableName": self._names[table],
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
            "ConsistentRead": True,
            "ScanIndexForward": not newest_first,
            "PaginationConfig": {} if limit is None else {"MaxItems": limit, "PageSize": limit},
        }
        if after is not None:
            arguments["ExclusiveStartKey"] = _key(Key(partition, after))
        with aws_errors("DynamoDB"):
            for page in self._client.get_paginator("query").paginate(**arguments):
                yield from map(_from_attributes, page["Items"])

    def write(self, change: Put | Update | Delete) -> Item | None:
        """Make one change; one that only met a transaction on the same item is repeated.

        See :meth:`millrace.ports.RegistryStore.write`.
        """
        request = self._request(change)
        (written,) = retry(
            lambda: self._try_to_write(change, request),
            "DynamoDB could not finish a change beside transactions on the same item",
        )
        return written

    def _try_to_write(self, change: Put | Update | Delete, request: Any) -> tuple[Item | None] | None:
        with aws_errors("DynamoDB"):
            try:
                match change:
                    case Put():
                        self._client.put_item(**request)
                    case Delete():
                        self._client.delete_item(**request)
                    case Update():
                        changed = self._client.update_item(**request, ReturnValues="UPDATED_NEW")
                        return (_from_attributes(changed.get("Attributes", {})),)
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return (None,)
                if error_code(error) == "TransactionConflictException":
                    return None
                raise
        return ({},)

    def transact(self, changes: Sequence[StoreChange]) -> list[int]:
        """Make all changes or none; a transaction that only met another one on the same items is repeated.

        See :meth:`millrace.ports.RegistryStore.transact`.
        """
        actions: Any = [{_ACTIONS[type(change)]: self._request(change)} for change in changes]
        return retry(
            lambda: self._try_to_transact(actions),
            "DynamoDB could not finish a transaction beside others on the same items",
        )

    def _try_to_transact(self, actions: "Sequence[TransactWriteItemTypeDef]") -> list[int] | None:
        with aws_errors("DynamoDB"):
            try:
                self._client.transact_write_items(TransactItems=actions)
            except ClientError as error:
                codes = cancellation_codes(error) if error_code(error) == "TransactionCanceledException" else []
                if failed := [position for position, code in enumerate(codes) if code == _CONDITION_FAILED]:
                    return failed
                if _CONTENTION.intersection(codes):
                    return None
                raise
        return []

    def _request(self, change: StoreChange) -> Any:
        """Return the parameters of a call, which are those of a transaction's action too."""
        expression = _Expression()
        request: dict[str, Any] = {"TableName": self._names[change.key.table]}
        if isinstance(change, Put):
            request["Item"] = _to_attributes({"pk": change.key.partition, "sk": change.key.sort, **change.item})
            conditions: tuple[Condition, ...] = () if change.replace else (Absent(),)
        else:
            request["Key"] = _key(change.key)
            conditions = change.conditions
        if isinstance(change, Update):
            request["UpdateExpression"] = expression.update(change)
        if conditions:
            request["ConditionExpression"] = " AND ".join(map(expression.condition, conditions))
        if expression.names:
            request["ExpressionAttributeNames"] = {name: attribute for attribute, name in expression.names.items()}
        if expression.values:
            request["ExpressionAttributeValues"] = expression.values
        return request


_ACTIONS = {Put: "Put", Update: "Update", Delete: "Delete", Check: "ConditionCheck"}


class _Expression:
    """The names and values of a call's expressions."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def update(self, change: Update) -> str:
        parts = []
        if change.set:
            assignments = [f"{self._name(path)} = {self._new(path, value)}" for path, value in change.set.items()]
            parts.append("SET " + ", ".join(assignments))
        if change.remove:
            parts.append("REMOVE " + ", ".join(map(self._name, change.remove)))
        return " ".join(parts)

    def condition(self, condition: Condition) -> str:
        name = self._name(condition.attribute)
        if isinstance(condition, Exists):
            return f"attribute_exists({name})"
        if isinstance(condition, Absent):
            return f"attribute_not_exists({name})"
        comparison = f"{name} {condition.operator} {self._value(condition.value)}"
        return f"(attribute_not_exists({name}) OR {comparison})" if condition.or_absent else comparison

    def _new(self, path: AttributePath, value: Any) -> str:
        if isinstance(value, Plus):
            return f"if_not_exists({self._name(value.counter)}, {self._value(0)}) + {self._value(value.number)}"
        if isinstance(value, Default):
            return f"if_not_exists({self._name(path)}, {self._value(value.value)})"
        return self._value(value)

    def _name(self, path: AttributePath) -> str:
        parts: Iterable[str] = (path,) if isinstance(path, str) else path
        return ".".join(self.names.setdefault(part, f"#{len(self.names)}") for part in parts)

    def _value(self, value: Any) -> str:
        name = f":{len(self.values)}"
        self.values[name] = _to_attribute(value)
        return name


def _key(key: Key) -> Any:
    return _to_attributes({"pk": key.partition, "sk": key.sort})


def _to_attributes(item: Item) -> dict[str, Any]:
    return {name: _to_attribute(value) for name, value in item.items()}


def _to_attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"M": _to_attributes(value)}
    if isinstance(value, bytes):
        return {"B": value}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def _from_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _from_attribute(attribute) for name, attribute in attributes.items()}


def _from_attribute(attribute: Mapping[str, Any]) -> Any:
    (kind, value), *_ = attribute.items()
    if kind == "M":
        return _from_attributes(value)
    return int(value) if kind == "N" else value
