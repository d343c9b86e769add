"""MLflow's tracking by stock clients of two generations."""

from collections.abc import Iterator

import pytest

from tests.clients.conversations import run
from tests.mlflow_server import client_environment, mlflow_on_moto


@pytest.fixture
def server() -> Iterator[tuple[str, str]]:
    with mlflow_on_moto() as found:
        yield found


@pytest.mark.parametrize(("tool", "version", "steps"), [("clients", "3.", 10), ("older_clients", "2.22", 8)])
def test_a_stock_client_takes_the_tour(server: tuple[str, str], tool: str, version: str, steps: int) -> None:
    found = run("tour_mlflow.py", tool=tool, **client_environment(*server))
    assert found["version"].startswith(version)
    assert len(found["done"]) == steps
