"""The store of versions of ``predict``: two DynamoDB items and three objects, each read by its key.

The scopes of API keys are items beside them.

Reads the items of :mod:`millrace.registry.items` without importing it, because a prediction needs neither
pydantic nor any other entity; and with botocore's own clients, because boto3 would import resources and a transfer
manager besides.
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from millrace.aws.client_errors import aws_errors, error_code
from millrace.errors import ArtifactNotFoundError, ModelNotFoundError, ModelNotReadyError, VersionNotFoundError
from millrace.layout import version_key
from millrace.names import CHAMPION
from millrace.routing import AliasPointer

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

#: A caller is waiting: a pointer that does not come within seconds does not come.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="millrace",
)

#: Versions below a damaged champion among which an earlier one is searched.
_EARLIER_VERSIONS = 20
_NO_SUCH_OBJECT = frozenset({"404", "NoSuchKey", "NotFound"})


class AwsModelSource:
    """Implements :class:`millrace.serving.model.ModelSource`.

    Parameters
    ----------
    dynamodb, s3 : low-level clients
        Of botocore or boto3.
    table_name, bucket_name : str
        The registry's table and the bucket of models.
    """

    def __init__(self, dynamodb: "DynamoDBClient", s3: "S3Client", table_name: str, bucket_name: str) -> None:
        self._dynamodb = dynamodb
        self._s3 = s3
        self._table_name = table_name
        self._bucket_name = bucket_name

    def read_alias(self, model: str, alias: str) -> AliasPointer:
        """Return what ``alias`` points to; raises ``ModelNotFoundError`` when there is nothing."""
        item = self._item(f"MODEL#{model}", "STATE", "aliases", "deleted_at", "routing")
        if item is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        if "deleted_at" in item:
            raise ModelNotFoundError(f"the model {model!r} was deleted")
        version = item.get("aliases", {}).get("M", {}).get(alias, {}).get("N")
        if version is None and alias == CHAMPION:
            raise ModelNotReadyError(f"model {model!r} has no {alias} to serve yet")
        if version is None:
            raise ModelNotFoundError(f"model {model!r} has no {alias}")
        return AliasPointer(int(version), item.get("routing", {}).get("S", "") if alias == CHAMPION else "")

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the SHA-256 of a version's manifest; raises ``VersionNotFoundError``, also when it is retired."""
        item = self._item(f"MODEL#{model}", f"VERSION#{version:06d}", "manifest_sha256", "status")
        if item is None:
            raise VersionNotFoundError(f"model {model!r} has no version {version}")
        if item.get("status", {}).get("S") == "retired":
            raise VersionNotFoundError(f"version {version} of model {model!r} is retired")
        return str(item["manifest_sha256"]["S"])

    def artifact(self, model: str, version: int, name: str) -> bytes:
        """Return an artifact's bytes; raises ``ArtifactNotFoundError``."""
        key = version_key(model, version, name)
        with aws_errors("S3"):
            try:
                return self._s3.get_object(Bucket=self._bucket_name, Key=key)["Body"].read()
            except ClientError as error:
                if error_code(error) in _NO_SUCH_OBJECT:
                    raise ArtifactNotFoundError(f"{name} of {model} version {version} is gone") from error
                raise

    def earlier_champions(self, model: str, version: int) -> Iterator[int]:
        """Yield the lower versions that were promoted and are not retired, the nearest first; only a few."""
        for number in range(version - 1, max(0, version - 1 - _EARLIER_VERSIONS), -1):
            item = self._item(f"MODEL#{model}", f"VERSION#{number:06d}", "status", "outcome") or {}
            if item.get("outcome", {}).get("S") == "promoted" and item.get("status", {}).get("S") != "retired":
                yield number

    def key_models(self, key_id: str) -> Sequence[str] | None:
        """Return the models that an API key may use; None for a key without a scope."""
        item = self._item("KEYS", f"KEY#{key_id}", "models")
        return None if item is None else [str(name) for name in json.loads(item["models"]["S"])]

    def _item(self, partition: str, sort_key: str, *attributes: str) -> dict[str, Any] | None:
        with aws_errors("DynamoDB"):
            found = self._dynamodb.get_item(
                TableName=self._table_name,
                Key={"pk": {"S": partition}, "sk": {"S": sort_key}},
                ProjectionExpression=", ".join(f"#{attribute}" for attribute in attributes),
                ExpressionAttributeNames={f"#{attribute}": attribute for attribute in attributes},
            )
        return found.get("Item")


def aws_model_source(table_name: str, bucket_name: str) -> AwsModelSource:
    """Build the clients, and the source on them."""
    session = botocore.session.get_session()
    dynamodb = cast("DynamoDBClient", session.create_client("dynamodb", config=_CONFIG))
    s3 = cast("S3Client", session.create_client("s3", config=_CONFIG))
    return AwsModelSource(dynamodb, s3, table_name, bucket_name)
