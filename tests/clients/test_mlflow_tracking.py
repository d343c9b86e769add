"""MLflow's tracking by stock clients of two generations, and compared with MLflow's own server."""

import os
from collections.abc import Iterator

import pytest

from tests.clients.conversations import run
from tests.mlflow_server import client_environment, mlflow_on_moto

#: Random sequences of calls that are sent to both servers; more, and others, on demand.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "2")
WHICH = ("others",) if "FUZZ_EXAMPLES" in os.environ else ()
SECONDS = 300 + 60 * int(EXAMPLES)


@pytest.fixture
def server() -> Iterator[tuple[str, str]]:
    with mlflow_on_moto() as found:
        yield found


@pytest.mark.parametrize(("tool", "version", "steps"), [("clients", "3.", 10), ("older_clients", "2.22", 8)])
def test_a_stock_client_takes_the_tour(server: tuple[str, str], tool: str, version: str, steps: int) -> None:
    found = run("tour_mlflow.py", tool=tool, **client_environment(*server))
    assert found["version"].startswith(version)
    assert len(found["done"]) == steps


@pytest.mark.timeout(SECONDS)
def test_random_calls_have_the_responses_of_mlflows_own_server(server: tuple[str, str]) -> None:
    tracking, storage = server
    found = run(
        "compare_mlflow.py", tracking, EXAMPLES, *WHICH, seconds=SECONDS, **client_environment(tracking, storage)
    )
    assert found["sent"] >= 15 * int(EXAMPLES)
    assert found["succeeded"] > found["sent"] / 2
