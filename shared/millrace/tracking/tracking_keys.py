"""Keys of the tracking table's items.

==========================================  ===============================================================
partition / sort key                        item
==========================================  ===============================================================
``EXPERIMENTS`` / ``E#<id>``                an experiment
``EXPERIMENTS`` / ``N#<hash of the name>``  the id of the experiment of that name, which makes names unique
``EXPERIMENT#<id>`` / ``R#<time>#<run>``    a run: the newest first
``EXPERIMENT#<id>`` / ``L#<time>#<model>``  a logged model: the newest first
``EXPERIMENT#<id>`` / ``D#<hash>``          a dataset of runs: source, schema, profile
``RUN#<run>`` / ``POINTER``                 experiment and sort key of a run
``RUN#<run>`` / ``H#<metric>#<time>#...``   header of a chunk of a metric's values; a small chunk's values too
``RUN#<run>`` / ``C#<metric>#<time>#...``   the values of a large chunk
``LOGGED#<model>`` / ``POINTER``            experiment and sort key of a logged model
``REGISTERED`` / ``M#<hash of the name>``    a registered model of a user
``VERSIONS`` / ``<model id>#<000000001>``    a version of a registered model
==========================================  ===============================================================

No scan, no secondary index.
"""

import hashlib
import json
import re
from typing import Literal

from millrace.ports import Key

_RUN_ID = re.compile(r"[0-9a-f]{32}")
#: Times descend: the key of a later one is the smaller text. Milliseconds until the year 5138.
_END_OF_TIME = 10**14


EXPERIMENTS_PARTITION = "EXPERIMENTS"


def experiment_key(experiment_id: str) -> Key:
    """Return the key of an experiment."""
    return Key(EXPERIMENTS_PARTITION, f"E#{experiment_id}", "tracking")


def experiment_name_key(name: str) -> Key:
    """Return the key of the item that makes a name unique."""
    return Key(EXPERIMENTS_PARTITION, f"N#{short_hash(name)}", "tracking")


def experiment_partition(experiment_id: str) -> str:
    """Return the partition of an experiment's runs, logged models and datasets."""
    return f"EXPERIMENT#{experiment_id}"


def run_pointer(run_id: str) -> Key:
    """Return the key of the item that says where a run is."""
    return Key(run_partition(run_id), "POINTER", "tracking")


def run_key(experiment_id: str, run_id: str, started_ms: int) -> Key:
    """Return the key of a run: the latest start sorts first, then the id."""
    return Key(experiment_partition(experiment_id), f"R#{descending(started_ms)}#{run_id}", "tracking")


def descending(time_ms: int) -> str:
    """Return a time as text whose order is the reverse."""
    return f"{_END_OF_TIME - max(0, min(time_ms, _END_OF_TIME)):015d}"


def short_hash(text: str) -> str:
    """Return 32 hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_mirrored_experiment(experiment_id: str) -> bool:
    """Return whether an experiment is one of Millrace's models: 18 digits, of which the first is a 9."""
    return len(experiment_id) == 18 and experiment_id[0] == "9"  # noqa: PLR2004 - see above


def is_mirrored_run(run_id: str) -> bool:
    """Return whether a run is one of Millrace's runs or trials."""
    return not _RUN_ID.fullmatch(run_id)


def dataset_item(experiment_id: str, name: str, digest: str) -> Key:
    """Return the key of a dataset of an experiment's runs."""
    return Key(experiment_partition(experiment_id), f"D#{short_hash(json.dumps([name, digest]))}", "tracking")


def logged_model_pointer(model_id: str) -> Key:
    """Return the key of the item that says where a logged model is."""
    return Key(f"LOGGED#{model_id}", "POINTER", "tracking")


def logged_model_key(experiment_id: str, model_id: str, created_ms: int) -> Key:
    """Return the key of a logged model: the latest sorts first, then the id."""
    return Key(experiment_partition(experiment_id), f"L#{descending(created_ms)}#{model_id}", "tracking")


def chunk_prefix(kind: Literal["H", "C"], metric: str) -> str:
    """Return what the sort keys of a metric's headers (H) or contents (C) of chunks begin with."""
    return f"{kind}#{short_hash(metric)}#"


def run_partition(run_id: str) -> str:
    """Return the partition of a run's pointer and chunks."""
    return f"RUN#{run_id}"
