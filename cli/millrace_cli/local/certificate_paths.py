"""Paths of the local stack's certificates, for commands that make none: making them imports a library for them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """Paths of the certificates.

    Parameters
    ----------
    authority : Path
        Certificate authority that clients must trust.
    certificate, key : Path
        The server's certificate and its private key.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def under(cls, local_dir: Path) -> "CertificatePaths":
        """Return the paths for the local stack in ``local_dir``."""
        folder = local_dir / "tls"
        return cls(folder / "authority.pem", folder / "server.pem", folder / "server.key")
