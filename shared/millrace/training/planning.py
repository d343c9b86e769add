"""Planning: which trials a run consists of."""

import json

from millrace.contracts import TrainingPlan, TrialPointer
from millrace.layout import prepared_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import Run, Trial
from millrace.schema import TableSchema, Task
from millrace.spec import ModelSpec
from millrace.training.metric_catalogue import get_metric
from millrace.training.search_space import select_search_spaces


def plan_run(run: Run, *, registry: Registry, data_store: ObjectStore) -> TrainingPlan:
    """Record a run's trials and return pointers to them; again is the same as once.

    Raises
    ------
    InvalidInputError
        When the spec names a candidate or a metric that the task does not have: said here, before anything is fitted.
    """
    registry.update_run(run.model, run.run_id, stage="planning")
    schema = load_schema(run, data_store)
    trials = plan_trials(run, schema.task, registry.get_spec(run.model))
    registry.put_trials(trials)
    registry.update_run(run.model, run.run_id, stage="training")
    pointers = [TrialPointer(model=run.model, run_id=run.run_id, trial_id=trial.trial_id) for trial in trials]
    return TrainingPlan(trials=pointers)


def plan_trials(run: Run, task: Task, spec: ModelSpec) -> list[Trial]:
    """Return one trial for each parameter set of each candidate, numbered from 1."""
    get_metric(task, spec.primary_metric)
    for name in spec.gate.floors:
        get_metric(task, name, field=f"gate.floors.{name}")
    planned = [
        (space.candidate, parameters)
        for space in select_search_spaces(task, spec.candidates)
        for parameters in space.parameter_sets
    ]
    return [
        Trial(
            model=run.model,
            run_id=run.run_id,
            trial_id=f"{number:02d}-{name}",
            candidate=name,
            parameters=parameters,
            seed=spec.seed,
        )
        for number, (name, parameters) in enumerate(planned, start=1)
    ]


def load_schema(run: Run, data_store: ObjectStore) -> TableSchema:
    """Read the schema that the run's data was prepared under; raises ``ArtifactNotFoundError``."""
    return TableSchema.from_dict(json.loads(data_store.get(prepared_key(run.model, run.run_id, "schema.json"))))
