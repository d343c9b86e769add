"""Settings of the functions, read by :mod:`millrace.environment`.

Those of ``predict`` are in :mod:`millrace.predict_settings`: a cold start would make the classes of every function.
"""

from dataclasses import dataclass
from typing import Literal

from millrace.environment import load_settings as load_settings  # noqa: PLC0414 - who needs a class reads it


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
    training_pipeline_arn: str


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
