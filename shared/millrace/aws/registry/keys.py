"""Keys of the registry's table."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Key = dict[str, "AttributeValueTypeDef"]

STATE = "STATE"
SPEC = "SPEC"
MODELS_PARTITION = "MODELS"
OUTBOX_PARTITION = "OUTBOX"


def sortable(moment: datetime) -> str:
    """Return a moment as text that sorts by time: UTC, always with microseconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def model_key(model: str, sort_key: str) -> Key:
    """Return the key of one item of a model."""
    return {"pk": {"S": f"MODEL#{model}"}, "sk": {"S": sort_key}}


def models_key(model: str) -> Key:
    """Return the key of the item that says the model exists."""
    return {"pk": {"S": MODELS_PARTITION}, "sk": {"S": f"MODEL#{model}"}}


def cause_key(model: str, cause_id: str) -> Key:
    """Return the key of a cause."""
    return model_key(model, f"CAUSE#{cause_id}")


def pending_key(model: str, since: datetime, cause_id: str) -> Key:
    """Return the key of the item that says a cause waits."""
    return model_key(model, f"PENDING#{sortable(since)}#{cause_id}")


def run_key(model: str, run_id: str) -> Key:
    """Return the key of a run; run ids sort by time."""
    return model_key(model, f"RUN#{run_id}")


def trial_key(model: str, run_id: str, trial_id: str) -> Key:
    """Return the key of a trial."""
    return model_key(model, f"TRIAL#{run_id}#{trial_id}")


def dataset_key(model: str, accepted_at: datetime, dataset_id: str) -> Key:
    """Return the key of an accepted dataset."""
    return model_key(model, f"DATASET#{sortable(accepted_at)}#{dataset_id}")


def dataset_id_key(model: str, dataset_id: str) -> Key:
    """Return the key of the item that says a dataset's content is known."""
    return model_key(model, f"DATASETID#{dataset_id}")


def version_key(model: str, version: int) -> Key:
    """Return the key of a version; six digits, so that versions sort by number."""
    return model_key(model, f"VERSION#{version:06d}")


def ledger_key(model: str, occurred_at: datetime, entry_id: str) -> Key:
    """Return the key of a ledger entry."""
    return model_key(model, f"LEDGER#{sortable(occurred_at)}#{entry_id}")


def alias_move_key(model: str, alias: str, occurred_at: datetime) -> Key:
    """Return the key of a move of an alias; no two are at the same moment."""
    return model_key(model, f"ALIAS#{alias}#{sortable(occurred_at)}")


def approval_key(model: str, run_id: str) -> Key:
    """Return the key of a run's approval."""
    return model_key(model, f"APPROVAL#{run_id}")


def outbox_key(model: str, occurred_at: datetime, entry_id: str) -> Key:
    """Return the key of an entry that listeners were not told of yet; of all models in one partition, by time."""
    return {"pk": {"S": OUTBOX_PARTITION}, "sk": {"S": f"{sortable(occurred_at)}#{model}#{entry_id}"}}
