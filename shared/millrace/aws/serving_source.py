"""The store of versions of ``predict``: two DynamoDB items and three objects, each read by its key.

The scopes of API keys are items beside them.

Reads the items of :mod:`millrace.registry.items` without importing it, because a prediction needs neither
pydantic nor any other entity; and with requests that are signed here, because botocore's clients would be most of a
cold start.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from millrace.aws.authorities import tls_context
from millrace.aws.credentials import CredentialSource
from millrace.aws.signed_client import AwsResponseError, BucketReader, DynamoDbReader
from millrace.aws.signed_requests import AwsSettings
from millrace.environment import load_settings, read_settings
from millrace.errors import ArtifactNotFoundError, ModelNotFoundError, ModelNotReadyError, VersionNotFoundError
from millrace.layout import version_key
from millrace.names import CHAMPION
from millrace.routing import AliasPointer

#: Versions below a damaged champion among which an earlier one is searched.
_EARLIER_VERSIONS = 20
_NO_SUCH_OBJECT = frozenset({"404", "NoSuchKey", "NotFound"})


class AwsModelSource:
    """Implements :class:`millrace.serving.model.ModelSource`.

    Parameters
    ----------
    dynamodb, s3 : clients
        Of DynamoDB, and of the bucket of models.
    table_name : str
        The registry's table.
    credentials : CredentialSource
        Of both clients.
    """

    def __init__(
        self, dynamodb: DynamoDbReader, s3: BucketReader, table_name: str, credentials: CredentialSource
    ) -> None:
        self._dynamodb = dynamodb
        self._s3 = s3
        self._table_name = table_name
        self._credentials = credentials

    def forget(self) -> None:
        """Close connections and forget credentials: a snapshot must hold neither, and the next read gets new ones."""
        for client in (self._dynamodb, self._s3):
            client.close()
        self._credentials.forget()

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
        try:
            return self._s3.get_object(version_key(model, version, name))
        except AwsResponseError as error:
            if error.code in _NO_SUCH_OBJECT:
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
        return self._dynamodb.get_item(
            TableName=self._table_name,
            Key={"pk": {"S": partition}, "sk": {"S": sort_key}},
            ProjectionExpression=", ".join(f"#{attribute}" for attribute in attributes),
            ExpressionAttributeNames={f"#{attribute}": attribute for attribute in attributes},
        )


def aws_model_source(table_name: str, bucket_name: str) -> AwsModelSource:
    """Build the clients, and the source on them; no connection is made yet."""
    settings = load_settings(AwsSettings)
    credentials = CredentialSource(lambda: load_settings(AwsSettings))
    dynamodb, s3 = DynamoDbReader(settings, credentials), BucketReader(bucket_name, settings, credentials)
    return AwsModelSource(dynamodb, s3, table_name, credentials)


def prepare_tls() -> None:
    """Read the certificates of authorities, which takes longer than a prediction, while the processor is whole."""
    tls_context(read_settings(AwsSettings).aws_ca_bundle, "aws")
