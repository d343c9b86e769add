"""Other people's clients, unmodified, against the real handler behind HTTP on this machine."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.conversations import (
    send_what_the_document_makes,
    talk_with_kserve,
    talk_with_mlflow,
    talk_with_triton,
)
from tests.gateway import call, memory_handler, serve
from tests.serving_models import CHURN_RECORD

#: Requests of each kind and operation; more on demand.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[str, dict[str, Any]]]:
    """The address, and the prediction of one row as MLflow's dialect has it."""
    with memory_handler() as handler, serve(handler) as url:
        _, reply = call(handler, "POST", "/models/churn/invocations", {"dataframe_records": [CHURN_RECORD]})
        yield url, reply["predictions"][0]


@pytest.mark.parametrize("talk", [talk_with_kserve, talk_with_triton, talk_with_mlflow])
def test_a_client_understands_the_answers(endpoint: tuple[str, dict[str, Any]], talk: Callable[..., None]) -> None:
    url, expected = endpoint
    talk(url, "churn", expected)


def test_the_endpoint_keeps_what_its_openapi_document_promises(endpoint: tuple[str, dict[str, Any]]) -> None:
    assert send_what_the_document_makes(endpoint[0], "churn", EXAMPLES) > 250
