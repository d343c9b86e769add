"""Settings of ``predict``."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """Settings of ``predict``, which reads aliases and versions alone."""

    registry_table: str
    models_bucket: str
    alias_refresh_seconds: float = 5.0  # least time between two reads of an alias
    max_rows_per_request: int = 10_000  # rows that one request may hold
    error_detail: Literal["full", "reduced"] = "full"  # detail of errors and warnings; ``reduced`` hides the schema
    capture_predictions: bool = True  # false captures nothing, whatever specs say
    preloaded_models: str = ""  # names, separated by commas, of models that a snapshot holds
    model_metrics: bool = False  # whether CloudWatch gets metrics by model, version and protocol, which are billed
