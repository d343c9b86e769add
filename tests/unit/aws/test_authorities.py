import ssl
from pathlib import Path
from typing import Any

import pytest
from millrace.aws.authorities import Authorities, tls_context
from millrace.errors import ConfigurationError

from tests.unit.aws.certificates import write_certificate


def trusted(bundle: str, authorities: Authorities = "all") -> list[str]:
    """The organizations whose certificates a context trusts."""
    subjects: list[Any] = [one["subject"] for one in tls_context(bundle, authorities).get_ca_certs()]
    return sorted(dict(pair for (pair,) in subject)["organizationName"] for subject in subjects)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, str]:
    """Files with the certificates of some authorities."""
    folder = tmp_path_factory.mktemp("bundles")
    texts = {
        name: Path(write_certificate(folder / name, name)).read_bytes()
        for name in ("Amazon", "Starfield Services Root", "Nobody")
    }
    mixed, broken = folder / "mixed", folder / "broken"
    mixed.write_bytes(b"# caf\xe9\n".join(texts.values()))
    broken.write_bytes(texts["Amazon"] + b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n")
    return {path.name: str(path) for path in (mixed, broken, folder / "Nobody")}


def test_the_authorities_of_aws_are_picked_out_of_a_bundle(bundles):
    assert trusted(bundles["mixed"], "aws") == ["Amazon", "Starfield Services Root"]
    assert trusted(bundles["mixed"]) == ["Amazon", "Nobody", "Starfield Services Root"]


def test_all_are_trusted_where_none_is_aws(bundles):
    assert trusted(bundles["Nobody"], "aws") == ["Nobody"]


def test_the_system_s_are_picked_as_well():
    found, every = (set(map(str, tls_context("", kind).get_ca_certs())) for kind in ("aws", "all"))
    assert found <= every or not every  # OpenSSL may read a folder of them when it needs one
    assert tls_context("", "aws").verify_mode == ssl.CERT_REQUIRED
    assert tls_context("", "aws").check_hostname


@pytest.mark.parametrize("authorities", ["aws", "all"])
def test_a_bundle_that_cannot_be_read_is_a_fault_of_the_deployment(bundles, authorities):
    for bundle in ("/nowhere.pem", bundles["broken"]):
        with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
            tls_context(bundle, authorities)
