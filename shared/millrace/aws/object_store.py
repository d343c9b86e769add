"""A bucket on S3."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from millrace.aws.client_errors import aws_errors, error_code
from millrace.errors import ArtifactNotFoundError, ConfigurationError, ConflictError, ServiceUnavailableError
from millrace.ports import ListedObject, ObjectInfo, ObjectVersion

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

#: A deleted object is gone too: reading its delete marker is "method not allowed", and a version id that S3 never
#: gave is an invalid argument.
_GONE = frozenset({"404", "405", "InvalidArgument", "MethodNotAllowed", "NoSuchKey", "NoSuchVersion", "NotFound"})

#: A conditional write that another write overtook.
_OVERTAKEN = frozenset({"412", "409", "PreconditionFailed", "ConditionalRequestConflict"})
#: A range that begins where the object ends, or after.
_BEYOND = frozenset({"416", "InvalidRange"})
_DENIED = frozenset({"403", "AccessDenied"})
_READS = frozenset({"CopyObject", "GetObject", "HeadObject"})
#: A signature ends with the credentials of the role at the latest.
_SIGNED_SECONDS = 3_600
#: Objects that one call deletes.
_MAX_DELETED = 1_000


class S3ObjectStore:
    """Implements :class:`millrace.ports.ObjectStore`.

    Parameters
    ----------
    bucket_name : str
        The bucket must be versioned. The role needs ``s3:ListBucket`` on it: without, S3 returns "access denied"
        for an object that does not exist.
    find_signer : callable or None, default=None
        Returns the client that signs addresses; None signs with ``client``.
    """

    def __init__(
        self, client: "S3Client", bucket_name: str, find_signer: "Callable[[], S3Client] | None" = None
    ) -> None:
        self._client = client
        self.bucket_name = bucket_name
        self._find_signer = find_signer or (lambda: client)

    def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object's bytes; raises ``ArtifactNotFoundError``."""
        with self._errors(key):
            return self._client.get_object(Bucket=self.bucket_name, Key=key, **_version(version_id))["Body"].read()

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and the ETag they have now; raises ``ArtifactNotFoundError``."""
        with self._errors(key):
            found = self._client.get_object(Bucket=self.bucket_name, Key=key)
            return found["Body"].read(), found["ETag"]

    def get_range(self, key: str, start: int, end: int, *, etag: str = "", version_id: str | None = None) -> bytes:
        """Return some of an object's bytes; raises ``ConflictError`` when it no longer has the ETag."""
        condition: Any = {"IfMatch": f'"{etag.strip(chr(34))}"'} if etag else {}
        with self._errors(key):
            try:
                found = self._client.get_object(
                    Bucket=self.bucket_name,
                    Key=key,
                    Range=f"bytes={start}-{end - 1}",
                    **condition,
                    **_version(version_id),
                )
            except ClientError as error:
                if error_code(error) in _OVERTAKEN:
                    raise ConflictError(f"the object {key!r} was replaced since it was listed") from error
                if error_code(error) in _BEYOND:
                    return b""
                raise
            body = found["Body"].read()
            # A server may ignore a range, and MiniStack does for a version: then it returns the whole object.
            return body if "ContentRange" in found else body[start:end]

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        """Return an object's size and metadata; raises ``ArtifactNotFoundError``."""
        with self._errors(key):
            found = self._client.head_object(Bucket=self.bucket_name, Key=key, **_version(version_id))
        return ObjectInfo(
            size=found["ContentLength"],
            version_id=found.get("VersionId"),
            last_modified=found["LastModified"],
            metadata=found["Metadata"],
            etag=found["ETag"].strip('"'),
        )

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects whose keys begin with ``prefix``, by key; the next page is requested when it is reached."""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket_name, Prefix=prefix)
            for page in pages:
                for found in page.get("Contents", []):
                    yield ListedObject(found["Key"], found["Size"], found["LastModified"], found["ETag"].strip('"'))

    def list_versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """Yield every version of the objects whose keys begin with ``prefix``; those of one key newest first."""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self.bucket_name, Prefix=prefix)
            for page in pages:
                for found in page.get("Versions", []):
                    yield ObjectVersion(found["Key"], found["VersionId"], found["Size"], found["LastModified"])
                for mark in page.get("DeleteMarkers", []):
                    yield ObjectVersion(mark["Key"], mark["VersionId"], 0, mark["LastModified"], is_deleted=True)

    def download(self, key: str, path: Path, version_id: str | None = None) -> None:
        """Write an object to a file, in parts; raises ``ArtifactNotFoundError``."""
        with self._errors(key):
            self._client.download_file(self.bucket_name, key, str(path), ExtraArgs=_version(version_id))

    def upload_file(self, path: Path, key: str, content_type: str = "application/octet-stream") -> None:
        """Write a file as an object, in parts, whole or not at all."""
        with self._errors(key), path.open("rb") as file:
            self._client.upload_fileobj(file, self.bucket_name, key, ExtraArgs={"ContentType": content_type})

    def find_version(self, key: str, etag: str) -> str:
        """Return the newest version of an object with that ETag; raises ``ArtifactNotFoundError``."""
        with self._errors(key):
            pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self.bucket_name, Prefix=key)
            for page in pages:
                # Newest first within a key; keys that only begin alike come after it.
                for version in page.get("Versions", []):
                    if version["Key"] == key and version["ETag"].strip('"') == etag.strip('"'):
                        return version["VersionId"]
        raise ArtifactNotFoundError(f"no version of {key!r} in {self.bucket_name!r} has the ETag {etag}")

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, whole or not at all."""
        with self._errors(key):
            self._client.put_object(Bucket=self.bucket_name, Key=key, Body=body, ContentType=content_type)

    def put_if_unchanged(
        self, key: str, body: bytes, etag: str | None, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write an object only while it still has that ETag, or, with None, while there is none yet."""
        with self._errors(key):
            try:
                condition: Any = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
                self._client.put_object(
                    Bucket=self.bucket_name, Key=key, Body=body, ContentType=content_type, **condition
                )
            except ClientError as error:
                # An object that was deleted meanwhile has changed too: S3 then returns 404.
                if error_code(error) in _OVERTAKEN or (etag is not None and error_code(error) in _GONE):
                    return False
                raise
        return True

    def sign_read(self, key: str) -> str:
        """Return the address at which anybody may read an object for an hour, by the rights of this role."""
        return self._find_signer().generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket_name, "Key": key}, ExpiresIn=_SIGNED_SECONDS
        )

    def sign_write(self, key: str) -> str:
        """Return the address at which anybody may write an object for an hour, by the rights of this role."""
        return self._find_signer().generate_presigned_url(
            "put_object", Params={"Bucket": self.bucket_name, "Key": key}, ExpiresIn=_SIGNED_SECONDS
        )

    def copy(self, source_key: str, target_key: str, version_id: str | None = None) -> None:
        """Copy within the bucket; raises ``ArtifactNotFoundError`` when there is no source.

        One call copies up to 5 GB; a model's largest artifact is far below (``GateSpec.max_model_bytes``).
        """
        source: Any = {"Bucket": self.bucket_name, "Key": source_key, **_version(version_id)}
        with self._errors(source_key):
            # Without the source's tags, which no function may read or write.
            self._client.copy_object(
                Bucket=self.bucket_name, Key=target_key, CopySource=source, TaggingDirective="REPLACE"
            )

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, a thousand a call; see :meth:`millrace.ports.ObjectStore.delete`."""
        for start in range(0, len(keys), _MAX_DELETED):
            batch: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys[start : start + _MAX_DELETED]]
            with self._errors(batch[0]["Key"]):
                response = self._client.delete_objects(
                    Bucket=self.bucket_name, Delete={"Objects": batch, "Quiet": True}
                )
            if faults := response.get("Errors"):
                codes = sorted({fault.get("Code", "") for fault in faults})
                if "AccessDenied" in codes:
                    raise ConfigurationError(f"S3 does not allow this function to delete {faults[0].get('Key')!r}")
                raise ServiceUnavailableError(f"{len(faults)} object(s) are left in S3 ({', '.join(codes)})")

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        with aws_errors("S3"):
            try:
                yield
            except ClientError as error:
                if error_code(error) in _GONE:
                    raise ArtifactNotFoundError(f"there is no object {key!r} in {self.bucket_name!r}") from error
                if error_code(error) in _DENIED and error.operation_name in _READS:
                    raise ConfigurationError(
                        f"S3 refused {error.operation_name} of {key!r} in {self.bucket_name!r} "
                        f"({error_code(error)}); an upload that is encrypted with a KMS key needs the stack's "
                        f"parameter UploadKeyArn"
                    ) from error
                raise


def _version(version_id: str | None) -> Any:
    return {} if version_id is None else {"VersionId": version_id}
