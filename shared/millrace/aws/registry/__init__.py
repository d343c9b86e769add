"""The registry on one DynamoDB table.

=========================================  ==============================================================
``pk`` / ``sk``                            what
=========================================  ==============================================================
``MODELS`` / ``MODEL#<model>``             that the model exists, so that listing models is a Query
``MODEL#<model>`` / ``STATE``              version counter, aliases, revision, active run
``MODEL#<model>`` / ``SPEC``               what the user configured
``MODEL#<model>`` / ``CAUSE#<cause_id>``   a trigger and what became of it; ``expires_at`` for TTL
``MODEL#<model>`` / ``PENDING#<time>#...`` a cause that waits; gone once a follow-up run takes it
``MODEL#<model>`` / ``RUN#<run_id>``       a training run
``MODEL#<model>`` / ``TRIAL#<run>#<id>``   a trial of a run
``MODEL#<model>`` / ``DATASET#<time>#...`` an accepted dataset, in the order of acceptance
``MODEL#<model>`` / ``DATASETID#<id>``     that this content was accepted already
``MODEL#<model>`` / ``VERSION#<000001>``   a registered version
``MODEL#<model>`` / ``ALIAS#<alias>#...``  one move of an alias, by time: what it pointed to then is one Query
``MODEL#<model>`` / ``APPROVAL#<run_id>``  an approval and its answer
``MODEL#<model>`` / ``LEDGER#<time>#...``  one line of the ledger, never changed
``OUTBOX`` / ``<time>#<model>#<entry>``    a line of the ledger that listeners were not told of yet
=========================================  ==============================================================

No Scan, no secondary index. A role that reads needs GetItem and Query; one that writes PutItem, UpdateItem,
DeleteItem and ConditionCheckItem too. Reading a model's state, spec, version or run is one GetItem.
"""

from typing import TYPE_CHECKING

from millrace.aws.registry.acts import ActItems
from millrace.aws.registry.causes import CauseItems
from millrace.aws.registry.datasets import DatasetItems
from millrace.aws.registry.ledger import LedgerItems
from millrace.aws.registry.models import ModelItems
from millrace.aws.registry.runs import RunItems
from millrace.aws.registry.table import Table
from millrace.aws.registry.versions import VersionItems

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoRegistry(ModelItems, CauseItems, RunItems, DatasetItems, VersionItems, ActItems, LedgerItems):
    """Implements :class:`millrace.ports.Registry`.

    Parameters
    ----------
    client : DynamoDBClient
        Built by :mod:`millrace.aws.clients`.
    table_name : str
        A table with string keys ``pk`` and ``sk``, and TTL on ``expires_at``.
    """

    def __init__(self, client: "DynamoDBClient", table_name: str) -> None:
        super().__init__(Table(client, table_name))
