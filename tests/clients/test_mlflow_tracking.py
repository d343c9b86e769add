"""MLflow's tracking, compared with MLflow's own server; stock clients take their tour on the deployed stack."""

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


@pytest.mark.timeout(SECONDS)
def test_random_calls_have_the_responses_of_mlflows_own_server(server: tuple[str, str]) -> None:
    tracking, storage = server
    found = run(
        "compare_mlflow.py", tracking, EXAMPLES, *WHICH, seconds=SECONDS, **client_environment(tracking, storage)
    )
    assert found["sent"] >= 15 * int(EXAMPLES)
    assert found["succeeded"] > found["sent"] / 2
