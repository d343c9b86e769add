"""Sessions of AWS: credentials and a region, from which clients are made.

They are botocore's. Of boto3 the command line needs the client of S3 alone, which sends files in parts; importing it
took a twentieth of the start of every command.
"""

from functools import cache
from typing import Any

from botocore.session import Session


def key_session(access_key_id: str, secret_access_key: str, region: str) -> Session:
    """Return a session with an access key."""
    session = Session()
    session.set_credentials(access_key_id, secret_access_key)
    session.set_config_variable("region", region)
    return session


def make_client(session: Session, service: str, **settings: Any) -> Any:
    """Return a client; that of S3 is boto3's."""
    if service == "s3":
        return _with_boto3(session).client(service, **settings)
    return session.create_client(service, **settings)


@cache  # boto3 adds to a session once
def _with_boto3(session: Session) -> Any:
    import boto3  # noqa: PLC0415 - see above

    return boto3.Session(botocore_session=session)
