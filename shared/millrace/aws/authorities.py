"""Authorities that connections to AWS trust: those that sign AWS's servers, or all of the machine's.

OpenSSL takes longer to read the 140 certificates of a machine than ``predict`` takes for its whole first request, and
five of them sign AWS's servers (https://www.amazontrust.com/repository/). These are picked out of the machine's or of
``AWS_CA_BUNDLE``. A server that they have not signed, as a proxy or an endpoint of another partition, is verified with
all; so no authority is trusted that the bundle does not hold, and none of the bundle is left out for good.
"""

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from millrace.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

Authorities = Literal["aws", "all"]

#: Parts of the names of the authorities of AWS's servers.
_NAMES_OF_AWS = (b"Amazon", b"Starfield Services Root")
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END"


@cache
def tls_context(ca_bundle: str, authorities: Authorities = "all") -> "ssl.SSLContext":
    """Return what verifies servers by the certificates in a file, by default the system's.

    All are trusted where none of them is AWS's. Raises ``ConfigurationError`` for a file that cannot be read.
    """
    import ssl  # noqa: PLC0415 - a local stack has no certificates

    bundle = ca_bundle or ssl.get_default_verify_paths().cafile
    if authorities == "aws" and bundle and (found := _find_authorities_of_aws(Path(bundle))):
        return ssl.create_default_context(cadata=found)
    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:
        raise ConfigurationError("the certificates that AWS_CA_BUNDLE names cannot be read") from error


def is_unverified(error: BaseException) -> bool:
    """Return whether an error is that of a server which no trusted authority has signed."""
    import ssl  # noqa: PLC0415 - as above

    return isinstance(error, ssl.SSLCertVerificationError)


def _find_authorities_of_aws(bundle: Path) -> bytes:
    """Return the certificates of AWS's authorities; none of a file that cannot be read."""
    try:
        texts = bundle.read_bytes().split(_BEGIN)[1:]
        certificates = [base64.b64decode(text.partition(_END)[0]) for text in texts]
    except (OSError, ValueError):
        return b""
    return b"".join(one for one in certificates if any(name in one for name in _NAMES_OF_AWS))
