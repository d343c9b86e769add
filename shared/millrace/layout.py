"""Keys of every object in the data and model buckets, and of items that the registry and others write.

``data`` bucket::

    incoming/<model>/<file>                           drop zone: a file is an upload
    incoming/<model>/<folder>/...                     files of one dataset, which `_SUCCESS` or a manifest finishes
    datasets/<model>/<dataset_id>/                    data.parquet profile.json validation.json manifest.json
                                                      report.html uploads/<cause_id>.json
    quarantine/<model>/<dataset_id or cause_id>/      rejected files or rows, with the reasons
    prepared/<model>/<run_id>/                        train.npz validation.npz test.npz schema.json manifest.json
                                                      reference.json holdout_columns.npz background.npz
    captures/<model>/<yyyy>/<mm>/<dd>/<hh>/           predictions, by the hour they were made, *.jsonl.gz
    captures/_malformed/<yyyy>/<mm>/<dd>/             captured lines that could not be parsed
    feedback/<model>/<yyyy>/<mm>/<dd>/                ground truth, by the day it was received, *.jsonl
    monitoring/<model>/state.json.gz                  state of monitoring; changed only by who read it last
    monitoring/<model>/segments/... windows/...       histograms of captures, and ground truth as it arrives
    monitoring/<model>/reports/<end of window>.json   and .html; latest.json and latest.html are copies
    monitoring/<model>/batch/windows/<job_id>.json.gz histograms of the rows of captured batch jobs
    monitoring/<model>/batch/state.json.gz            state of monitoring of batch jobs; reports/batch.json
    score/<model>/<file>                              drop zone of batch scoring: a file is a job
    score/<model>/<folder>/...                        files of one job, started by `_SUCCESS`, a manifest or a request
    scored/<model>/<job_id>/                          part-*.parquet or csv, errors.jsonl, manifest.json, _SUCCESS
    jobs/<job_id>/                                    job.json plan.json parts.jsonl lanes.json receipts/00000.json
    replays/<model>/<id>/                             request.json state.json parts/*.npz report.json report.html, and
                                                      evidence.json of a release
    schemas/<model>/<schema_version>.json             the schema that every later dataset must match, and its
    schemas/<model>/<schema_version>.<revision>.json  compatible revisions

``models`` bucket::

    <model>/runs/<run_id>/<trial_id>/                 trial.json model.onnx estimator.skops held_out.npz
    <model>/runs/<run_id>/evaluation.json             the leaderboard and the gate's decision
    <model>/runs/<run_id>/prediction_profile.json     the winner's predictions of the holdout, for monitoring
    <model>/runs/<run_id>/confidence.json             the calibration of the winner's intervals or prediction sets
    <model>/versions/<n>/                             manifest.json model.onnx signature.json card.json ...
    mlflow/experiments/<experiment_id>/<run_id>/      artifacts of MLflow clients, which write them themselves
    mlflow/records/<hash>                             records of MLflow runs that are too large for an item
    <model>/versions/<n>/mlflow/                      the version as an MLflow model: MLmodel model.onnx code/ ...
"""

from datetime import UTC, datetime
from typing import Literal

from millrace.item_keys import Key

INCOMING_PREFIX = "incoming/"
#: Where files to score lie, and their predictions. Neither holds the other, so no job can start another one.
SCORE_PREFIX, SCORED_PREFIX = "score/", "scored/"

#: What MLflow clients write, and what the server of their API writes: a model named mlflow has neither folder.
MLFLOW_ARTIFACTS, MLFLOW_RECORDS = "mlflow/experiments", "mlflow/records"

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


#: Names that complete a folder of the drop zone: Spark's marker, and manifests of Redshift's UNLOAD and others.
SUCCESS_MARKER = "_SUCCESS"
MARKERS = (SUCCESS_MARKER, "manifest", "manifest.json")

#: Files that one folder may hold.
MAX_FOLDER_FILES = 500

_FOLDER_DEPTH = 3


#: Partitions of the registry's table: the index of models, and the ledger's entries that are not published yet.
MODELS_PARTITION = "MODELS"
OUTBOX_PARTITION = "OUTBOX"
#: Partition, in the table of runs, of what is known of every model before it is monitored: one query reads it.
MONITORING_PARTITION = "MONITORING"


#: The ledger of the aliases of users' registered models in MLflow's API; no model can have the name.
MLFLOW_LEDGER = "_mlflow"


def model_state_item(model: str) -> Key:
    """Return the key of the item by which a model exists; it has ``deleted_at`` once the model was deleted."""
    return Key(f"MODEL#{model}", "STATE")


def monitoring_item(model: str) -> Key:
    """Return the key of a model's activity and next check."""
    return Key(MONITORING_PARTITION, f"MODEL#{model}", "runs")


def batch_item(model: str, job_id: str) -> Key:
    """Return the key of a batch job's record; those of a model are in the order of their ids, which is that of time."""
    return Key(f"MODEL#{model}", f"BATCH#{job_id}", "runs")


def batch_of_cause_item(model: str, cause_id: str) -> Key:
    """Return the key of the item that names the batch job of a cause."""
    return Key(f"MODEL#{model}", f"BATCHOF#{cause_id}", "runs")


def folder_of_marker(key: str) -> str | None:
    """Return the folder that an object completes, with ``/`` at its end; None for any other object."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/" if name in MARKERS and len(folder.split("/")) >= _FOLDER_DEPTH else None


def is_hidden(name: str) -> bool:
    """Return whether a file below a folder is no data: Spark, Hive and Athena ignore it too, or it is a marker."""
    parts = name.split("/")
    return parts[-1] in ("", *MARKERS) or any(part.startswith(("_", ".")) for part in parts)


def folder_of_part(key: str) -> str | None:
    """Return the folder in which a file of the drop zone waits; None when the file is an upload of its own."""
    folder = key.rpartition("/")[0]
    return f"{folder}/" if len(folder.split("/")) >= _FOLDER_DEPTH else None


def incoming_key(model: str, file_name: str) -> str:
    """Return the key of an upload."""
    return f"{INCOMING_PREFIX}{model}/{file_name}"


def dataset_key(model: str, dataset_id: str, name: str) -> str:
    """Return the key of one document of an accepted dataset."""
    return f"datasets/{model}/{dataset_id}/{name}"


def quarantine_key(model: str, identifier: str, name: str) -> str:
    """Return the key of a rejected file, its rows or its verdict."""
    return f"quarantine/{model}/{identifier}/{name}"


def schema_key(model: str, schema_version: int) -> str:
    """Return the key of one version of a model's schema."""
    return f"schemas/{model}/{schema_version}.json"


def schema_revision_key(model: str, schema_version: int, revision: int) -> str:
    """Return the key of one revision of a version of a model's schema, which is never overwritten by another."""
    return f"schemas/{model}/{schema_version}.{revision}.json"


def prepared_key(model: str, run_id: str, name: str) -> str:
    """Return the key of one document of a run's prepared data."""
    return f"prepared/{model}/{run_id}/{name}"


def split_key(model: str, run_id: str, split: SplitName) -> str:
    """Return the key of one prepared split."""
    return prepared_key(model, run_id, f"{split}.npz")


def captures_prefix(model: str, hour: datetime) -> str:
    """Return the prefix of one hour's captured predictions."""
    return f"captures/{model}/{hour.astimezone(UTC):%Y/%m/%d/%H}/"


def captures_of_day_prefix(model: str, day: datetime) -> str:
    """Return the prefix of one day's captured predictions."""
    return f"captures/{model}/{day.astimezone(UTC):%Y/%m/%d}/"


def captures_key(model: str, predicted_at: datetime, name: str) -> str:
    """Return the key of an object of captured predictions."""
    return f"{captures_prefix(model, predicted_at)}{name}.jsonl.gz"


def malformed_captures_key(received_at: datetime, name: str) -> str:
    """Return the key of captured lines that could not be parsed; no model can be called ``_malformed``."""
    return f"captures/_malformed/{received_at.astimezone(UTC):%Y/%m/%d}/{name}.jsonl"


def feedback_prefix(model: str, day: datetime) -> str:
    """Return the prefix of one day's feedback."""
    return f"feedback/{model}/{day.astimezone(UTC):%Y/%m/%d}/"


def feedback_key(model: str, received_at: datetime, name: str) -> str:
    """Return the key of an object of feedback."""
    return f"{feedback_prefix(model, received_at)}{name}.jsonl"


def trial_key(model: str, run_id: str, trial_id: str, name: str) -> str:
    """Return the key of one artifact of a trial."""
    return f"{model}/runs/{run_id}/{trial_id}/{name}"


def evaluation_key(model: str, run_id: str) -> str:
    """Return the key of a run's evaluation: leaderboard, holdout metrics and the gate's decision."""
    return f"{model}/runs/{run_id}/evaluation.json"


def prediction_profile_key(model: str, run_id: str) -> str:
    """Return the key of the profile of a winner's predictions of the holdout, for monitoring."""
    return f"{model}/runs/{run_id}/prediction_profile.json"


def confidence_key(model: str, run_id: str) -> str:
    """Return the key of the calibration of a winner's intervals or prediction sets."""
    return f"{model}/runs/{run_id}/confidence.json"


def version_key(model: str, version: int, name: str) -> str:
    """Return the key of one artifact of a registered version."""
    return f"{model}/versions/{version}/{name}"


def mlflow_key(model: str, version: int, path: str) -> str:
    """Return the key of a file of a registered version as an MLflow model; of the directory with an empty path."""
    return version_key(model, version, f"mlflow/{path}")


def job_key(job_id: str, name: str) -> str:
    """Return the key of one document of a batch job."""
    return f"jobs/{job_id}/{name}"


def receipts_prefix(job_id: str) -> str:
    """Return the prefix of the receipts of a batch job's parts."""
    return job_key(job_id, "receipts/")


def receipt_key(job_id: str, part: int) -> str:
    """Return the key of the receipt of a part."""
    return f"{receipts_prefix(job_id)}{part:05d}.json"


def scored_prefix(model: str, job_id: str, folder: str = "") -> str:
    """Return the prefix of a batch job's predictions; ``folder`` is empty, or ends with ``/``."""
    return f"{SCORED_PREFIX}{model}/{folder}{job_id}/"


def monitoring_key(model: str, name: str) -> str:
    """Return the key of one of monitoring's documents about a model."""
    return f"monitoring/{model}/{name}"


def job_windows_prefix(model: str) -> str:
    """Return the prefix of the histograms of captured batch jobs."""
    return monitoring_key(model, "batch/windows/")


def job_window_key(model: str, job_id: str) -> str:
    """Return the key of the histograms of a captured batch job's rows."""
    return f"{job_windows_prefix(model)}{job_id}.json.gz"


def replay_key(model: str, replay_id: str, name: str) -> str:
    """Return the key of one document of a replay of captured requests."""
    return f"{replays_prefix(model)}{replay_id}/{name}"


def replays_prefix(model: str) -> str:
    """Return the prefix of all replays of a model."""
    return f"replays/{model}/"


def runs_prefix(model: str) -> str:
    """Return the prefix of all objects of a model's runs."""
    return f"{model}/runs/"


def versions_prefix(model: str) -> str:
    """Return the prefix of all objects of a model's versions."""
    return f"{model}/versions/"
