"""Upkeep of releases by monitoring: rewards are collected, and a tick is requested should the schedule be lost.

``monitor_model`` does this, and ``evaluate_release`` reads the sums: what reads captures cannot write what serves.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from millrace.captures.joining import join_window
from millrace.captures.records import CapturedRow
from millrace.captures.window import ReadReport, WindowBuilder, iterate_rows
from millrace.entities import Release
from millrace.ports import Event, EventPublisher, ObjectStore
from millrace.registry.ledger import EVENT_VERSION
from millrace.registry.store import Registry
from millrace.releases.rewards import (
    Reward,
    RewardEvidence,
    find_rewards,
    first_of_each,
    read_reward,
    reward_evidence_key,
)

#: Most hours of requests that one call takes; the next one goes on.
_MAX_HOURS = 24
#: Releases among which the active one is: the newest, unless clocks differ.
_NEWEST = 5


def remind_of_release(model: str, registry: Registry, publisher: EventPublisher, now: datetime) -> bool:
    """Publish ``ReleaseDue``, should the schedule of an active release, or of a version that waits for it, be lost.

    Raises ``ServiceUnavailableError`` when the bus is busy.
    """
    state = registry.find_state(model)
    if state is None or state.deleted_at is not None or not (state.release_id or state.pending_candidate):
        return False
    event_id = f"{model}/release-due-{now.astimezone(UTC):%Y%m%dT%H}"
    detail = {"event_version": EVENT_VERSION, "event_id": event_id, "model": model, "release_id": state.release_id}
    publisher.publish([Event("ReleaseDue", detail, now)])
    return True


def collect_rewards(model: str, registry: Registry, data_store: ObjectStore, now: datetime) -> RewardEvidence | None:
    """Add the rewards of the requests that have become old enough; None for a model without a release of rewards.

    Of the requests of one row id in a collection the first counts, and of the rows of one request. Called twice at
    once, both write the same.
    """
    state = registry.find_state(model)
    if state is None or state.release_id is None:
        return None
    # Only what may write the registry has the functions that begin and change releases.
    newest, _ = registry.list_page(Release, model, "RELEASE#", newest_first=True, limit=_NEWEST)
    release = next((one for one in newest if one.release_id == state.release_id), None)
    if release is None or release.spec.reward is None or release.stage_kind != "serve":
        return None
    begun = release.stage_since or release.started_at
    evidence = find_rewards(release, data_store)
    if evidence is None:
        evidence = RewardEvidence(model=release.model, release_id=release.release_id, since=begun, until=begun)
    ripe = (now - release.spec.maturity).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    until = min(ripe, evidence.until + timedelta(hours=_MAX_HOURS))
    if until <= evidence.until:
        return evidence
    rows = _read_rows(release, data_store, evidence.until, until)
    excluded = registry.get_spec(model).feedback.exclude_callers
    rewards, not_reported = _join_rewards(release, rows, data_store, now, excluded)
    arms, bets = evidence.add(rewards, release.arm_shares)
    collected = RewardEvidence(
        model=release.model,
        release_id=release.release_id,
        since=evidence.since,
        until=until,
        arms=arms,
        not_reported=evidence.not_reported + not_reported,
        log_better=bets.better,
        log_worse=bets.worse,
    )
    data_store.put(reward_evidence_key(release), collected.write(), "application/json")
    return collected


def _read_rows(release: Release, data_store: ObjectStore, since: datetime, until: datetime) -> list[CapturedRow]:
    """Return the rows of a release from ``since`` to ``until`` that count, in the order of time."""
    rows = iterate_rows(data_store, release.model, since, until, ReadReport())
    own = [row for row in rows if row.release == release.release_id]
    own.sort(key=lambda row: (row.predicted_at, row.prediction_id))
    return [own[place] for place in first_of_each(map(_unit, own))]


def _join_rewards(
    release: Release,
    rows: Sequence[CapturedRow],
    data_store: ObjectStore,
    now: datetime,
    exclude_callers: Sequence[str],
) -> tuple[list[Reward], int]:
    """Return the rewards of rows, and how many outcomes were not reported in time."""
    spec = release.spec.reward
    if not rows or spec is None:
        return [], 0
    builder = WindowBuilder()
    for row in rows:
        builder.add(row)
    window = builder.build(release.model, rows[0].predicted_at, now, ReadReport())
    joined = join_window(data_store, window, now, exclude_callers)
    in_time = joined.received_at <= window.predicted_at + np.timedelta64(release.spec.maturity)
    place_of = {name: place for place, name in enumerate(window.prediction_ids.tolist())}
    places = [place_of[row.prediction_id] for row in rows]
    outcomes = [joined.outcomes[place] if in_time[place] else None for place in places]
    found = [Reward(row.arm, read_reward(outcome, spec)) for row, outcome in zip(rows, outcomes, strict=True)]
    return found, sum(outcome is None for outcome in outcomes)


def _unit(row: CapturedRow) -> str:
    """Return what counts once in an hour: the row's id, else its request."""
    return row.row_id or row.prediction_id.rpartition("-")[0]
