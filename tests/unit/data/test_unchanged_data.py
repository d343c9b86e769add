"""The same rows, spec and release again are nothing new to learn; anything else is."""

import gzip
import io
from dataclasses import replace
from datetime import timedelta

import millrace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.ingest import validate_run
from millrace.data.prepare import prepare
from millrace.data.validation import validate_upload
from millrace.entities import Cause, LedgerEntry, Run
from millrace.layout import prepared_key
from millrace.names import CHALLENGER, CHAMPION, make_cause_id, make_run_id
from millrace.spec import ModelSpec

from tests.captured_rows import make_feedback, make_row, store_feedback, store_rows
from tests.registry_builders import make_entry, make_version, point_alias
from tests.unit.data.test_validation import MODEL, NOW, Workshop, churn_csv

ROWS = churn_csv(60)
HEADER, *LINES = ROWS.splitlines()


@pytest.fixture
def workshop() -> Workshop:
    """A model whose version 1 was trained on ``ROWS`` and is the champion."""
    workshop = Workshop()
    trained(workshop, ROWS)
    return workshop


def trained(workshop: Workshop, body: str, version: int = 1, alias: str = CHAMPION) -> Run:
    """Upload a table whose run becomes a version."""
    run, verdict = workshop.validate(workshop.upload(f"v{version}.csv", body), now=NOW + timedelta(minutes=version))
    assert verdict.outcome == "accepted", verdict.reasons
    workshop.registry.put_version(make_version(version, run_id=run.run_id), make_entry(f"v{version}"))
    point_alias(workshop.registry, alias, version)
    return run


def again(workshop: Workshop, body: str | bytes = ROWS, name: str = "again.csv", **metadata: str):
    return workshop.validate(workshop.upload(name, body, **metadata), now=NOW + timedelta(hours=1))


def as_parquet(body: str) -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(body)).to_parquet(buffer, index=False)
    return buffer.getvalue()


SAME = {
    "same bytes": (ROWS, "again.csv"),
    "other name": (ROWS, "may.csv"),
    "other order of rows": ("\n".join([HEADER, *LINES[::-1]]) + "\n", "again.csv"),
    "other order of columns": (
        pd.read_csv(io.StringIO(ROWS))[["label", "churned", "plan", "age"]].to_csv(index=False),
        "again.csv",
    ),
    "compressed": (gzip.compress(ROWS.encode()), "again.csv.gz"),
    "parquet": (as_parquet(ROWS), "again.parquet"),
    "other delimiter": (ROWS.replace(",", ";"), "again.csv"),
    "with a malformed row": (f"{ROWS}1,2,3,4,5,6\n", "again.csv"),
    "with an unknown class": (f"{ROWS}20.5,pro,no,7\n", "again.csv"),
    "fewer of the rows": ("\n".join([HEADER, *LINES[:40]]) + "\n", "again.csv"),
}


@pytest.mark.parametrize("kind", sorted(SAME))
def test_the_same_rows_are_nothing_new(workshop, kind):
    body, name = SAME[kind]
    run, verdict = again(workshop, body, name)
    assert verdict.outcome == "unchanged"
    assert (run.status, run.stage, run.finished_at) == ("skipped", "finished", NOW + timedelta(hours=1))
    assert "nothing new to learn: version 1 stays" in run.reasons[0]
    assert "(--force)" in run.reasons[0]
    assert verdict.reasons == list(run.reasons)
    workshop.registry.file_notes(MODEL)
    (entry,) = [one for one in workshop.registry.list_ledger(MODEL) if one.action == "training_skipped"]
    assert (entry.reason, entry.details) == (run.reasons[0], {"run_id": run.run_id, "version": 1})
    assert workshop.store.keys(prepared_key(MODEL, run.run_id, "")) == []


def test_the_reasons_of_rejected_uploads_stand_behind_it(workshop):
    sources = [workshop.upload("again.csv", ROWS), workshop.upload("bad.csv", "no table")]
    run, verdict = workshop.validate(*sources, now=NOW + timedelta(hours=1))
    assert verdict.outcome == "unchanged"
    assert [reason.split(":")[0] for reason in run.reasons] == ["nothing new to learn", "bad.csv"]


NEW = {
    "more rows": "\n".join([ROWS.strip(), *churn_csv(10, first=60).splitlines()[1:]]) + "\n",
    "another value": ROWS.replace(LINES[7], "77.7,pro,no,1"),
    "another target": ROWS.replace(LINES[7], LINES[7][:-1] + ("0" if LINES[7].endswith("1") else "1")),
    "a row twice": f"{ROWS}{LINES[0]}\n",
    "a missing value": ROWS.replace(LINES[7], LINES[7].replace("plus", "")),
}


@pytest.mark.parametrize("kind", sorted(NEW))
def test_other_rows_are_new(workshop, kind):
    run, verdict = again(workshop, NEW[kind])
    assert (verdict.outcome, run.status) == ("accepted", "running")


@pytest.mark.parametrize(
    "field", [{"seed": 7}, {"gate": {"floors": {"roc_auc": 0.5}}}, {"columns": {"age": {"maximum": 99}}}]
)
def test_another_spec_is_new(workshop, field):
    workshop.registry.put_spec(MODEL, ModelSpec.parse(field))
    assert again(workshop)[1].outcome == "accepted"


def test_a_newer_release_is_new(workshop, monkeypatch):
    monkeypatch.setattr(millrace, "__version__", "99.0.0")
    assert again(workshop)[1].outcome == "accepted"


def test_captured_rows_are_new(workshop):
    spec = ModelSpec.parse({"retraining": {"captured_rows": True}})
    workshop.registry.put_spec(MODEL, spec)
    trained(workshop, ROWS, version=2)
    assert again(workshop)[1].outcome == "unchanged"
    served = NOW + timedelta(minutes=30)
    row = make_row(1, predicted_at=served, features={"age": 77.5, "plan": "pro", "churned": 1.0})
    store_rows(workshop.store, [row])
    store_feedback(workshop.store, [make_feedback(1, outcome="1", observed_at=served, received_at=served)])
    run, verdict = workshop.validate(workshop.upload("later.csv", ROWS), now=NOW + timedelta(hours=2))
    assert (verdict.outcome, run.summary["captured_rows"]["used"]) == ("accepted", 1)


def test_a_window_that_moved_is_new(workshop):
    workshop.registry.put_spec(MODEL, ModelSpec.parse({"window_days": 30}))
    trained(workshop, churn_csv(60, first=60), version=2)
    assert requested(workshop, "schedule", NOW + timedelta(days=1))[1].outcome == "unchanged"
    source = replace(workshop.upload("new.csv", churn_csv(60, first=120)), uploaded_at=NOW + timedelta(days=20))
    run, verdict = workshop.validate(source, now=NOW + timedelta(days=20))
    workshop.registry.put_version(make_version(3, run_id=run.run_id), make_entry("v3"))
    point_alias(workshop.registry, CHAMPION, 3)
    assert requested(workshop, "schedule", NOW + timedelta(days=25))[1].outcome == "unchanged"
    run, verdict = requested(workshop, "schedule", NOW + timedelta(days=40))
    assert (verdict.outcome, len(run.dataset_ids)) == ("accepted", 1)


def test_a_schema_that_is_inferred_anew_and_the_same_is_nothing_new(workshop):
    assert again(workshop, schema="replace")[1].outcome == "unchanged"
    other = ROWS.replace(",churned,", ",was_churned,")
    assert again(workshop, other, "other.csv", schema="replace")[1].outcome == "accepted"


@pytest.mark.parametrize("value", ["true", "True", " TRUE "])
def test_force_trains_anyway(workshop, value):
    assert again(workshop, force=value)[1].outcome == "accepted"


@pytest.mark.parametrize("value", ["", "false", "no"])
def test_other_metadata_do_not_force(workshop, value):
    assert again(workshop, force=value)[1].outcome == "unchanged"


def requested(workshop: Workshop, kind: str, now=NOW + timedelta(hours=1)):
    cause = Cause(make_cause_id(kind, str(now)), MODEL, kind, now)
    run = Run(MODEL, make_run_id(cause.cause_id, now), (cause.cause_id,), kind, now)
    workshop.registry.claim_cause(cause, run, LedgerEntry(MODEL, cause.cause_id, now, "test", "", ""))
    verdict = validate_run(run, registry=workshop.registry, data_store=workshop.store, now=now)
    finished = workshop.registry.get_run(MODEL, run.run_id)
    workshop.registry.release_run(MODEL, run.run_id, None, None)
    return finished, verdict


@pytest.mark.parametrize("kind", ["schedule", "drift", "quality", "staleness"])
def test_a_run_that_nobody_requested_is_skipped_with_the_reason(workshop, kind):
    run, verdict = requested(workshop, kind)
    assert (verdict.outcome, run.status) == ("unchanged", "skipped")
    assert "nothing new to learn: version 1 stays" in run.reasons[0]


def test_a_run_by_hand_trains(workshop):
    assert requested(workshop, "manual")[1].outcome == "accepted"


def test_validating_a_skipped_run_again_gives_the_same(workshop):
    run, verdict = again(workshop)
    retried = validate_run(run, registry=workshop.registry, data_store=workshop.store, now=NOW + timedelta(hours=1))
    assert retried == verdict
    workshop.registry.file_notes(MODEL)
    assert len([one for one in workshop.registry.list_ledger(MODEL) if one.action == "training_skipped"]) == 1


def test_the_data_of_a_challenger_are_nothing_new_either(workshop):
    trained(workshop, churn_csv(60, first=60), version=2, alias=CHALLENGER)
    assert "version 2 stays" in again(workshop)[0].reasons[0]


def test_without_a_version_the_same_rows_are_trained_on_again():
    workshop = Workshop()
    for hour in range(2):
        source = workshop.upload("churn.csv", ROWS)
        assert workshop.validate(source, now=NOW + timedelta(hours=hour))[1].outcome == "accepted"


def test_a_version_whose_data_is_gone_is_no_reason(workshop):
    run_id = workshop.registry.get_version(MODEL, 1).run_id
    workshop.store.delete([prepared_key(MODEL, run_id, "manifest.json")])
    assert again(workshop)[1].outcome == "accepted"


def test_the_fingerprint_knows_rows_beyond_the_features():
    """A group that no model sees changes the evaluation."""
    spec = {"columns": {"region": {"role": "ignored"}}, "sensitive_groups": ["region"]}
    table = pd.read_csv(io.StringIO(ROWS)).assign(region=np.arange(60) % 2)
    workshop = Workshop()
    workshop.registry.put_spec(MODEL, ModelSpec.parse(spec))
    trained(workshop, table.to_csv(index=False))
    moved = table.assign(region=(np.arange(60) + 1) % 2)
    workshop.registry.put_spec(MODEL, ModelSpec.parse(spec | {"combine": "latest"}))
    trained(workshop, table.to_csv(index=False), version=2)
    assert again(workshop, moved.to_csv(index=False))[1].outcome == "accepted"


def fingerprint(frame: pd.DataFrame, schema=None) -> str:
    found = validate_upload(frame.to_csv(index=False).encode(), "t.csv", ModelSpec(), {}, schema)
    assert found.table is not None, found.reasons
    return prepare(found.schema, [found.table], ModelSpec()).fingerprint(ModelSpec())


@settings(max_examples=20, deadline=None)  # the machine may be busy
@given(st.integers(0, 10_000), st.booleans(), st.integers(0, 59), st.sampled_from(["age", "plan", "churned", "label"]))
def test_the_order_of_rows_does_not_count_and_every_value_does(seed, with_ids, row, column):
    generator = np.random.default_rng(seed)
    frame = pd.read_csv(io.StringIO(ROWS))
    if with_ids:
        frame.insert(0, "customer_id", generator.permutation(60) + 100)
    schema = validate_upload(frame.to_csv(index=False).encode(), "t.csv", ModelSpec(), {}, None).schema
    assert fingerprint(frame.sample(frac=1.0, random_state=seed), schema) == fingerprint(frame, schema)
    others = {"age": 1e3, "plan": "pro" if frame["plan"][row] != "pro" else "plus"}
    others |= {"churned": "yes" if frame["churned"][row] == "no" else "no", "label": 1 - int(frame["label"][row])}
    changed = frame.assign(**{column: frame[column].where(frame.index != row, others[column])})
    assert fingerprint(changed, schema) != fingerprint(frame, schema)
