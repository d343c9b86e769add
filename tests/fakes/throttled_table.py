"""DynamoDB that refuses calls, after the attempts of botocore itself."""

import threading
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import ClientError
from millrace.aws.client_errors import error_code
from millrace.aws.error_codes import find_error
from millrace.aws.signed_client import DynamoDbReader

THROTTLED = ("ProvisionedThroughputExceededException", "ThrottlingException")


class ThrottledTable(threading.local):
    """Table that refuses the call at ``place``, counted from 1 and from when it was set; 0 refuses none.

    Its codes take turns. Each thread has a table of its own: steps of a run go on side by side.
    """

    def __init__(self) -> None:
        self.place = self.calls = 0
        self.was_hit = self.always = False

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> "ThrottledTable":
        """Put a table between every client of DynamoDB and its service."""
        table, call = cls(), botocore.client.BaseClient._make_api_call

        def guarded(client: Any, operation: str, arguments: Any) -> Any:
            if client.meta.service_model.service_name == "dynamodb":
                table.check(operation)
            return call(client, operation, arguments)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", guarded)
        get_item = DynamoDbReader.get_item

        def guarded_read(client: DynamoDbReader, **request: Any) -> Any:
            try:
                table.check("GetItem")
            except ClientError as error:
                raise find_error("DynamoDB", "GetItem", error_code(error), 400) from error
            return get_item(client, **request)

        monkeypatch.setattr(DynamoDbReader, "get_item", guarded_read)
        return table

    def refuse_at(self, place: int) -> None:
        self.place, self.calls, self.was_hit = place, 0, False

    def check(self, operation: str) -> None:
        self.calls += 1
        if self.always or self.calls == self.place:
            self.was_hit = True
            error = {"Error": {"Code": THROTTLED[self.place % 2]}, "ResponseMetadata": {"HTTPStatusCode": 400}}
            raise ClientError(error, operation)
