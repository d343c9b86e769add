"""Traffic at a given rate: rows in, predictions out, and what became true of them."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import numpy as np

from millrace_cli.errors import ApiError
from millrace_cli.simulation.shifts import Columns

#: Requests a second that a stack on one machine answers with ease; above, a request holds several rows.
REQUESTS_PER_SECOND = 10
_WORKERS = 4


class Api(Protocol):
    """The stack's API."""

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a document and return the answer."""
        ...


@dataclass(slots=True)
class Sent:
    """What was sent so far.

    Parameters
    ----------
    rows, right, feedback : int
        Rows answered; of these, predicted as they turned out; outcomes reported.
    refused : int
        Requests that were answered with an error.
    versions : set of int
        That answered.
    """

    rows: int = 0
    right: int = 0
    feedback: int = 0
    refused: int = 0
    last_error: str = ""
    versions: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sends rows drawn from a table.

    Parameters
    ----------
    columns : mapping of str to object array
        The table, as JSON holds it, the target among them.
    target : str
        The column that is not sent, and reported afterwards.
    with_labels : bool
        Whether outcomes are reported.
    """

    api: Api
    model: str
    columns: Columns
    target: str
    with_labels: bool
    random: np.random.Generator
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def send(self, rate: float, seconds: float) -> Iterator[Sent]:
        """Send ``rate`` rows a second for so long; yields what was sent, once a second or so."""
        sent = Sent()
        size = max(1, round(rate / REQUESTS_PER_SECOND))
        started = self.clock()
        due = 0
        with ThreadPoolExecutor(_WORKERS) as pool:
            while self.clock() - started < seconds:
                waiting = []
                while due < rate * (self.clock() - started + 1.0) and due < rate * seconds:
                    waiting.append(pool.submit(self._exchange, self._draw(size), sent))
                    due += size
                for future in waiting:
                    future.result()
                yield sent
                self.sleep(max(0.0, min(1.0, due / rate - (self.clock() - started))))
        yield sent

    def _draw(self, size: int) -> list[dict[str, Any]]:
        places = self.random.integers(len(self.columns[self.target]), size=size)
        return [{name: values[place] for name, values in self.columns.items()} for place in places.tolist()]

    def _exchange(self, rows: list[dict[str, Any]], sent: Sent) -> None:
        """Ask for predictions and report the outcomes; a refusal is counted, because traffic goes on."""
        features = [{name: value for name, value in row.items() if name != self.target} for row in rows]
        outcomes = [row[self.target] for row in rows]
        try:
            reply = self.api.post(f"/models/{self.model}/invocations", {"dataframe_records": features})
            known = [place for place, outcome in enumerate(outcomes) if outcome is not None]
            if self.with_labels and known:
                reports = [
                    {"prediction_id": f"{reply['prediction_id']}-{place}", "outcome": outcomes[place]}
                    for place in known
                ]
                self.api.post(f"/models/{self.model}/feedback", {"feedback": reports})
        except ApiError as error:
            with sent.lock:
                sent.refused += 1
                sent.last_error = error.message
            return
        labels = [
            prediction.get("label") if isinstance(prediction, dict) else None for prediction in reply["predictions"]
        ]
        with sent.lock:
            sent.rows += len(rows)
            sent.right += sum(label == outcome for label, outcome in zip(labels, outcomes, strict=True))
            sent.feedback += len(known) if self.with_labels else 0
            sent.versions.add(int(reply["model_version"]))
