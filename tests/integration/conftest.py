"""Integration tests run on moto, in process: no network, no containers."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from tests.integration.application import Application, deploy

MOTO_CONFIG = {"stepfunctions": {"execute_state_machine": True}}


@pytest.fixture
def application(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """The whole application, freshly deployed on moto."""
    with mock_aws(config=MOTO_CONFIG):  # type: ignore[arg-type]  # moto's type leaves out its own options
        yield deploy(monkeypatch)
