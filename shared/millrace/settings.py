"""Settings: the only module that reads the environment.

A function declares what it needs as a frozen dataclass; :func:`load_settings` reads every field from the
environment variable of the same name in capitals, once, and names *all* missing or malformed ones together.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import TypeVar

from millrace.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What a function needs that reads the registry: the DynamoDB table's name."""

    registry_table: str


@dataclass(frozen=True, slots=True)
class RequestTrainingSettings(RegistrySettings):
    """Settings of ``request_training``."""

    data_bucket: str
    training_pipeline_arn: str


@dataclass(frozen=True, slots=True)
class PipelineSettings(RegistrySettings):
    """Settings of the functions that the training pipeline calls."""

    data_bucket: str
    models_bucket: str


@dataclass(frozen=True, slots=True)
class ValidateDatasetSettings(PipelineSettings):
    """Settings of ``validate_dataset``.

    Parameters
    ----------
    aws_lambda_function_memory_size : int, default=3008
        In MB, as Lambda says in every function's environment: how much data it takes follows from it.
    """

    aws_lambda_function_memory_size: int = 3_008


@dataclass(frozen=True, slots=True)
class PlanTrainingSettings(PipelineSettings):
    """Settings of ``plan_training``.

    Parameters
    ----------
    training_concurrency : int, default=10
        Workers at once, where a spec says nothing.
    training_memory_mb : int, default=3008
        Memory of each.
    large_data : str, default='sample'
        What becomes of data that does not fit: ``sample`` trains on some of the rows, ``refuse`` fails the run.
    """

    training_concurrency: int = 10
    training_memory_mb: int = 3008
    large_data: str = "sample"


@dataclass(frozen=True, slots=True)
class PredictSettings(RegistrySettings):
    """Settings of ``predict``.

    Parameters
    ----------
    alias_refresh_seconds : float, default=5
        Least time between two reads of an alias pointer.
    max_rows_per_request : int, default=10000
        Rows that one request may hold.
    error_detail : str, default="full"
        How much errors tell a caller: ``full`` or ``reduced``.
    capture_predictions : str, default="true"
        ``false`` captures nothing, whatever specs say.
    """

    models_bucket: str
    alias_refresh_seconds: float = 5.0
    max_rows_per_request: int = 10_000
    error_detail: str = "full"
    capture_predictions: str = "true"


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Settings of ``deliver_captures``."""

    data_bucket: str


@dataclass(frozen=True, slots=True)
class FeedbackSettings(RegistrySettings):
    """Settings of ``record_feedback``."""

    data_bucket: str


@dataclass(frozen=True, slots=True)
class MonitoringSettings(RegistrySettings):
    """Settings of ``monitor_model``.

    Parameters
    ----------
    alarm_topic_arn : str
        The topic that people subscribe to.
    stack_name : str
        Of this deployment; events bear it.
    """

    data_bucket: str
    models_bucket: str
    alarm_topic_arn: str
    stack_name: str


@dataclass(frozen=True, slots=True)
class ManageModelsSettings(RegistrySettings):
    """Settings of ``manage_models``."""

    data_bucket: str
    models_bucket: str


@dataclass(frozen=True, slots=True)
class ApprovalSettings(RegistrySettings):
    """Settings of ``request_approval``; Lambda itself sets the region."""

    models_bucket: str
    approval_topic_arn: str
    aws_region: str


@dataclass(frozen=True, slots=True)
class MonitoringStartSettings:
    """What a function needs that starts the monitoring pipeline, or asks how it goes."""

    monitoring_pipeline_arn: str


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """What a function needs that keeps models' own schedules.

    Parameters
    ----------
    retraining_schedule_group, monitoring_schedule_group : str
        Where the schedules live, by what they are for.
    retraining_target_arn, monitoring_target_arn : str
        The function, and the state machine, that they start.
    retraining_schedule_role_arn, monitoring_schedule_role_arn : str
        The roles that the Scheduler takes to do so.
    schedule_dead_letter_arn : str
        The queue of firings that could not be delivered.
    """

    retraining_schedule_group: str
    retraining_target_arn: str
    retraining_schedule_role_arn: str
    monitoring_schedule_group: str
    monitoring_target_arn: str
    monitoring_schedule_role_arn: str
    schedule_dead_letter_arn: str


SettingsT = TypeVar("SettingsT")


def parse_settings(settings_class: type[SettingsT], environment: Mapping[str, str]) -> SettingsT:
    """Build ``settings_class`` from a mapping of environment variables.

    Raises
    ------
    ConfigurationError
        Names every missing and every malformed variable.
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
        try:
            values[field.name] = field.type(text)  # type: ignore[operator]  # str, int or float
        except ValueError:
            malformed.append(f"{variable}={text!r} is not {field.type.__name__}")  # type: ignore[union-attr]  # as above
    if missing or malformed:
        faults = [f"missing environment variables: {', '.join(missing)}"] if missing else []
        faults += [f"malformed environment variables: {', '.join(malformed)}"] if malformed else []
        raise ConfigurationError("; ".join(faults))
    return settings_class(**values)


@cache
def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read ``settings_class`` from this process's environment, once per execution environment."""
    return parse_settings(settings_class, os.environ)


def runs_on_lambda() -> bool:
    """Tell whether this process is Lambda's; a laptop's tests and tools need not start as fast as they answer."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ
