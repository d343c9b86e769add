"""Settings: the only module that reads the environment.

A function declares its settings as a frozen dataclass; :func:`load_settings` reads every field from the environment
variable of the same name in capitals, once, and names *all* missing or malformed ones together.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from millrace.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Settings of a function that reads the registry: the names of its DynamoDB tables."""

    registry_table: str
    runs_table: str


@dataclass(frozen=True, slots=True)
class DataSettings(RegistrySettings):
    """Settings of a function that reads the registry and the bucket of data."""

    data_bucket: str


@dataclass(frozen=True, slots=True)
class StoreSettings(DataSettings):
    """Settings of functions that read the registry and both buckets."""

    models_bucket: str


@dataclass(frozen=True, slots=True)
class RequestTrainingSettings(DataSettings):
    """Settings of ``request_training``."""

    training_pipeline_arn: str
    retraining_concurrency: int = 5  # runs at once that the stack's schedule requests


@dataclass(frozen=True, slots=True)
class ValidateDatasetSettings(StoreSettings):
    """Settings of ``validate_dataset``."""

    aws_lambda_function_memory_size: int = 3_008  # in MB; Lambda sets it. The limits of uploads follow from it


@dataclass(frozen=True, slots=True)
class PlanTrainingSettings(StoreSettings):
    """Settings of ``plan_training``."""

    training_concurrency: int = 10  # workers at once, unless the spec limits them
    training_memory_mb: int = 3008  # memory of each
    #: Train on a sample of data that exceeds the memory, or fail the run.
    large_data: Literal["sample", "refuse"] = "sample"


@dataclass(frozen=True, slots=True)
class RequestScoringSettings(DataSettings):
    """Settings of ``request_scoring``."""

    scoring_pipeline_arn: str


@dataclass(frozen=True, slots=True)
class PlanScoringSettings(StoreSettings):
    """Settings of ``plan_scoring``."""

    scoring_concurrency: int = 10  # parts at once of one job


@dataclass(frozen=True, slots=True)
class FinishScoringSettings(DataSettings):
    """Settings of ``finish_scoring``."""

    scoring_memory_mb: int = 1_769  # of the function that scores a part


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """Settings of ``predict``, which reads aliases and versions alone."""

    registry_table: str
    models_bucket: str
    alias_refresh_seconds: float = 5.0  # least time between two reads of an alias
    max_rows_per_request: int = 10_000  # rows that one request may hold
    error_detail: Literal["full", "reduced"] = "full"  # detail of errors and warnings; ``reduced`` hides the schema
    capture_predictions: bool = True  # false captures nothing, whatever specs say
    model_metrics: bool = False  # whether CloudWatch gets metrics by model, version and protocol, which are billed


@dataclass(frozen=True, slots=True)
class MonitoringSettings(StoreSettings):
    """Settings of ``monitor_model``."""

    alarm_topic_arn: str  # the topic of alerts
    model_metrics: bool = False  # metrics by model, which are billed


@dataclass(frozen=True, slots=True)
class CostSettings:
    """Settings of the stack that costs depend on."""

    predict_memory_size: int = 512  # MB
    training_memory_mb: int = 3008
    capture_predictions: bool = True
    request_tracing: Literal["Active", "PassThrough"] = "PassThrough"
    alarms: int = 0
    dashboards: int = 0
    queues: int = 0  # that Lambda polls


@dataclass(frozen=True, slots=True)
class DueModelsSettings(RegistrySettings):
    """Settings of ``find_due_models``."""

    monitoring_pipeline_arn: str


@dataclass(frozen=True, slots=True)
class TrackingSettings(StoreSettings):
    """Settings of ``serve_mlflow``."""

    tracking_table: str


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Settings of functions that publish events, which carry the stack's name."""

    stack_name: str


@dataclass(frozen=True, slots=True)
class ApprovalSettings(RegistrySettings):
    """Settings of ``request_approval``; Lambda itself sets the region."""

    models_bucket: str
    approval_topic_arn: str
    aws_region: str


@dataclass(frozen=True, slots=True)
class MonitoringStartSettings:
    """Settings of a function that starts the monitoring pipeline."""

    monitoring_pipeline_arn: str


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """Settings of a function that keeps models' own schedules, by purpose."""

    retraining_schedule_group: str
    retraining_target_arn: str  # of the function
    retraining_schedule_role_arn: str  # the role that the Scheduler assumes
    monitoring_schedule_group: str
    monitoring_target_arn: str  # of the state machine
    monitoring_schedule_role_arn: str
    scoring_schedule_group: str
    scoring_target_arn: str  # of the function
    scoring_schedule_role_arn: str
    schedule_dead_letter_arn: str  # the queue of events that could not be delivered


@dataclass(frozen=True, slots=True)
class ReleaseSettings(RegistrySettings):
    """Settings of ``evaluate_release``."""

    data_bucket: str
    models_bucket: str


@dataclass(frozen=True, slots=True)
class ReleaseScheduleSettings:
    """Settings of the schedules of releases; their target is the function that keeps them."""

    release_schedule_group: str
    release_schedule_role_arn: str
    schedule_dead_letter_arn: str


SettingsT = TypeVar("SettingsT")


def parse_settings(settings_class: type[SettingsT], environment: Mapping[str, str]) -> SettingsT:
    """Build ``settings_class`` from a mapping of environment variables.

    Raises ``ConfigurationError``, which names every missing and every malformed variable.
    """
    values: dict[str, object] = {}
    missing: list[str] = []
    malformed: list[str] = []
    for field in fields(settings_class):  # type: ignore[arg-type]  # every settings class is a dataclass
        variable = field.name.upper()
        text = environment.get(variable, "").strip()
        if not text:
            if field.default is MISSING:
                missing.append(variable)
            continue
        parse, expected = _parser(field.type)
        try:
            values[field.name] = parse(text)
        except (ValueError, KeyError):
            malformed.append(f"{variable}={text!r} is not {expected}")
    if missing or malformed:
        faults = [f"missing environment variables: {', '.join(missing)}"] if missing else []
        faults += [f"malformed environment variables: {', '.join(malformed)}"] if malformed else []
        raise ConfigurationError("; ".join(faults))
    return settings_class(**values)


def _parser(kind: Any) -> tuple[Callable[[str], object], str]:
    """Return the parser of a field's type, and a name of the type for messages."""
    if get_origin(kind) is Literal:
        allowed = {value: value for value in get_args(kind)}
        return allowed.__getitem__, " or ".join(allowed)
    if kind is bool:
        return {"true": True, "false": False}.__getitem__, "true or false"
    return kind, kind.__name__


@cache
def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read ``settings_class`` from this process's environment, once per execution environment."""
    return parse_settings(settings_class, os.environ)


def runs_on_lambda() -> bool:
    """Return True in a process of Lambda; tests and tools on a laptop need not start as fast."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ
