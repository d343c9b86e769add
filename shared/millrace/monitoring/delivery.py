"""Delivery: alerts wait in the state until every channel has taken them."""

from millrace.errors import ServiceUnavailableError
from millrace.layout import monitoring_key
from millrace.monitoring.running import load_state
from millrace.monitoring.state import STATE_NAME, Alert
from millrace.ports import Event, EventPublisher, Notifier, ObjectStore

_MAX_ATTEMPTS = 5


def deliver_alerts(
    model: str, store: ObjectStore, publisher: EventPublisher, notifier: Notifier, stack: str = ""
) -> int:
    """Deliver what waits; return how many alerts there were.

    ``stack`` goes into each event, so that of two stacks in an account each listens to its own.

    An alert leaves the state after both the bus and the people's topic have taken it. Where one of them fails, the
    alert stays and the next run tries again: it may then arrive twice, under the same ``event_id``.

    Raises
    ------
    ServiceUnavailableError
        When a channel failed; what was delivered before it is not delivered again.
    """
    state, _ = load_state(model, store)
    delivered: list[Alert] = []
    fault: ServiceUnavailableError | None = None
    for alert in state.outbox:
        try:
            publisher.publish([Event(alert.detail_type, {"stack": stack, **alert.detail}, alert.occurred_at)])
            if alert.subject:
                notifier.notify(alert.subject, alert.text)
        except ServiceUnavailableError as error:
            fault = error
            break
        delivered.append(alert)
    _forget(model, store, {alert.alert_id for alert in delivered})
    if fault is not None:
        raise fault
    return len(delivered)


def _forget(model: str, store: ObjectStore, delivered: set[str]) -> None:
    """Take alerts out of the state, whoever else writes it."""
    if not delivered:
        return
    for _ in range(_MAX_ATTEMPTS):
        state, etag = load_state(model, store)
        state.outbox = [alert for alert in state.outbox if alert.alert_id not in delivered]
        if store.put_if_unchanged(monitoring_key(model, STATE_NAME), state.to_bytes(), etag, "application/gzip"):
            return
    raise ServiceUnavailableError(f"the monitoring state of {model!r} keeps being changed by others")
