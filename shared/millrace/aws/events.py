"""Events on EventBridge, and messages on SNS."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from millrace.aws.client_errors import aws_errors
from millrace.errors import ConfigurationError
from millrace.observability import write_metrics
from millrace.ports import Event
from millrace.retry import retry

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef
    from mypy_boto3_sns import SNSClient


SOURCE = "millrace"
#: Limits of one call of PutEvents.
MAX_ENTRIES = 10
MAX_BYTES = 256_000
_MAX_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.2
#: Of one entry; any other code is a fault of ours that no repetition fixes.
_TRANSIENT = frozenset({"InternalFailure", "InternalException", "ThrottlingException"})
#: Events that the dashboard counts, by metric. A metric is billed by the hours in which it has a value.
_COUNTED = (
    ("Deployments", frozenset({"ModelPromoted"})),
    ("Rollbacks", frozenset({"ModelRolledBack", "ReleaseRolledBack"})),
)


class EventBridgePublisher:
    """Implements :class:`millrace.ports.EventPublisher`.

    PutEvents may take some entries and refuse others: only the refused ones are sent again.

    Parameters
    ----------
    stack : str
        Name of the stack, which every detail has: of two stacks in an account each listens to its own.
    sleep : callable, default=time.sleep
        Waits between attempts; seconds.
    """

    def __init__(self, client: "EventBridgeClient", stack: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._stack = stack
        self._sleep = sleep

    def publish(self, events: Sequence[Event]) -> None:
        """Publish all of ``events``; see :class:`millrace.ports.EventPublisher`.

        Raises ``ServiceUnavailableError`` when some could not be published now; ``ConfigurationError`` when the bus
        refuses one for good.
        """
        for entries in _batches([self._entry(event) for event in events]):
            self._put(entries)
        for metric, counted in _COUNTED:
            if count := sum(event.detail_type in counted for event in events):
                write_metrics({metric: (count, "Count")}, {"service": "registry"}, time.time())

    def _entry(self, event: Event) -> "PutEventsRequestEntryTypeDef":
        return {
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Detail": json.dumps({"stack": self._stack, **event.detail}, allow_nan=False),
            "Time": event.occurred_at,
            "EventBusName": "default",
        }

    def _put(self, entries: "list[PutEventsRequestEntryTypeDef]") -> None:
        waiting = entries

        def attempt() -> bool | None:
            nonlocal waiting
            with aws_errors("EventBridge"):
                results = self._client.put_events(Entries=waiting)["Entries"]
            codes = [result.get("ErrorCode") for result in results]
            if refused := sorted({code for code in codes if code and code not in _TRANSIENT}):
                raise ConfigurationError(f"EventBridge refused events ({', '.join(refused)})")
            waiting = [entry for entry, code in zip(waiting, codes, strict=True) if code]
            return None if waiting else True

        retry(
            attempt,
            f"EventBridge did not take all of {len(entries)} event(s)",
            attempts=_MAX_ATTEMPTS,
            first_pause_seconds=_FIRST_PAUSE_SECONDS,
            sleep=self._sleep,
        )


def _batches(entries: "list[PutEventsRequestEntryTypeDef]") -> "Iterator[list[PutEventsRequestEntryTypeDef]]":
    """Yield the entries in their order, as many as a call takes."""
    batch: list[PutEventsRequestEntryTypeDef] = []
    size = 0
    for entry in entries:
        # Source, detail type and detail count in UTF-8, the time counts 14 bytes.
        entry_size = 14 + sum(len(str(entry[key]).encode()) for key in ("Source", "DetailType", "Detail"))
        if batch and (len(batch) == MAX_ENTRIES or size + entry_size > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry_size
    if batch:
        yield batch


#: SNS's limit of a subject, and of a message with room to spare.
_MAX_SUBJECT = 100
_MAX_MESSAGE = 60_000


class SnsNotifier:
    """Implements :class:`millrace.ports.Notifier`."""

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def notify(self, subject: str, message: str) -> None:
        """Send a message; the subject is cut to one line of at most 100 ASCII characters."""
        plain = " ".join(subject.encode("ascii", "replace").decode().split())[:_MAX_SUBJECT]
        with aws_errors("SNS"):
            self._client.publish(TopicArn=self._topic_arn, Subject=plain, Message=message[:_MAX_MESSAGE])
