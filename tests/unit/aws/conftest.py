"""A certificate for servers on this machine."""

import pytest

from tests.unit.aws.certificates import write_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> str:
    """A certificate of localhost that nobody signed but itself."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "localhost.pem")
