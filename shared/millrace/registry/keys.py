"""Keys of the registry's items.

==========================================  ===============================================================
partition / sort key                        item
==========================================  ===============================================================
``MODELS`` / ``MODEL#<model>``              index of models, so that listing them is a query
``MODEL#<model>`` / ``STATE``               version counter, aliases, revision, active run
``MODEL#<model>`` / ``SPEC``                the model's spec
``MODEL#<model>`` / ``CAUSE#<cause_id>``    a cause and its outcome; ``expires_at`` for TTL
``MODEL#<model>`` / ``PENDING#<time>#...``  a cause that waits; deleted once a follow-up run takes it
``MODEL#<model>`` / ``RUN#<run_id>``        a training run
``MODEL#<model>`` / ``TRIAL#<run>#<id>``    a trial of a run
``MODEL#<model>`` / ``DATASET#<time>#...``  an accepted dataset, in the order of acceptance
``MODEL#<model>`` / ``DATASETID#<id>``      index of datasets by their content
``MODEL#<model>`` / ``VERSION#<000001>``    a registered version
``MODEL#<model>`` / ``ALIAS#<alias>#...``   a move of an alias, by time, so that point-in-time lookup is one query
``MODEL#<model>`` / ``APPROVAL#<run_id>``   an approval and its decision
``MODEL#<model>`` / ``LEDGER#<time>#...``   an entry of the ledger, never changed
``OUTBOX`` / ``<time>#<model>#<entry>``     an entry of the ledger that is not published yet
==========================================  ===============================================================

No scan, no secondary index. A role that reads needs GetItem and Query; one that writes PutItem, UpdateItem,
DeleteItem and ConditionCheckItem too.
"""

from datetime import UTC, datetime

from millrace.ports import Key

MODELS_PARTITION = "MODELS"
OUTBOX_PARTITION = "OUTBOX"


def sortable(timestamp: datetime) -> str:
    """Return a timestamp as text that sorts by time: UTC, always with microseconds."""
    return f"{timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class ModelKeys:
    """Keys of one model's items."""

    def __init__(self, model: str) -> None:
        self.partition = f"MODEL#{model}"
        self.index = Key(MODELS_PARTITION, f"MODEL#{model}")
        self.state = self.item("STATE")
        self.spec = self.item("SPEC")

    def item(self, sort_key: str) -> Key:
        """Return the key of the item with that sort key."""
        return Key(self.partition, sort_key)

    def cause(self, cause_id: str) -> Key:
        """Return the key of a cause."""
        return self.item(f"CAUSE#{cause_id}")

    def pending(self, since: datetime, cause_id: str) -> Key:
        """Return the key that marks a cause as waiting."""
        return self.item(f"PENDING#{sortable(since)}#{cause_id}")

    def run(self, run_id: str) -> Key:
        """Return the key of a run; run ids sort by time."""
        return self.item(f"RUN#{run_id}")

    def trial(self, run_id: str, trial_id: str) -> Key:
        """Return the key of a trial."""
        return self.item(f"TRIAL#{run_id}#{trial_id}")

    def dataset(self, accepted_at: datetime, dataset_id: str) -> Key:
        """Return the key of an accepted dataset."""
        return self.item(f"DATASET#{sortable(accepted_at)}#{dataset_id}")

    def dataset_id(self, dataset_id: str) -> Key:
        """Return the key in the index of datasets."""
        return self.item(f"DATASETID#{dataset_id}")

    def version(self, version: int) -> Key:
        """Return the key of a version; six digits, so that versions sort by number."""
        return self.item(f"VERSION#{version:06d}")

    def alias_move(self, alias: str, occurred_at: datetime) -> Key:
        """Return the key of a move of an alias; no two have the same timestamp."""
        return self.item(f"ALIAS#{alias}#{sortable(occurred_at)}")

    def approval(self, run_id: str) -> Key:
        """Return the key of a run's approval."""
        return self.item(f"APPROVAL#{run_id}")

    def ledger(self, occurred_at: datetime, entry_id: str) -> Key:
        """Return the key of a ledger entry."""
        return self.item(f"LEDGER#{sortable(occurred_at)}#{entry_id}")


def outbox_key(model: str, occurred_at: datetime, entry_id: str) -> Key:
    """Return the key of an unpublished entry; those of all models are in one partition, by time."""
    return Key(OUTBOX_PARTITION, f"{sortable(occurred_at)}#{model}#{entry_id}")
