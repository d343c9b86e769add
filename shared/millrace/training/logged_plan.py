"""The plan of a run that evaluates a model which a user logged: one trial, and the addresses that its check needs.

The check runs in a function without rights (:mod:`millrace.proposals.check`): it reads and writes by addresses that are
signed here, each good for one object and one hour.
"""

from millrace.contracts import Lane, LoggedFile, LoggedModelCheck, TrainingPlan, TrialPointer
from millrace.entities import LoggedModel, Run, Trial
from millrace.layout import prepared_key, trial_key
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.spec import ModelSpec
from millrace.training.trial_record import LOGGED, ONNX_NAME

TRIAL_ID = f"01-{LOGGED}"
#: Files of a logged model that its check may read.
MAX_FILES = 50


def plan_logged_model(
    run: Run,
    logged: LoggedModel,
    spec: ModelSpec,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
) -> TrainingPlan:
    """Record the trial of a logged model, and return the pointer with its check; idempotent."""
    known = {trial.trial_id for trial in registry.list_trials(run.model, run.run_id)}
    if TRIAL_ID not in known:
        parameters = {
            "source": logged.source,
            "mlflow_run_id": logged.mlflow_run_id,
            "mlflow_model_id": logged.mlflow_model_id,
            "proposed_by": logged.proposed_by,
        }
        trial = Trial(
            run.model, run.run_id, TRIAL_ID, LOGGED, {name: one for name, one in parameters.items() if one}, spec.seed
        )
        registry.put_trials([trial])
        registry.update_run(run.model, run.run_id, stage="training")
    files = [
        LoggedFile(name=name, size=listed.size, url=model_store.sign_read(listed.key))
        for listed in model_store.list(logged.prefix)
        if "/" not in (name := listed.key.removeprefix(logged.prefix))
    ]
    check = LoggedModelCheck(
        files=files[:MAX_FILES],
        schema_url=data_store.sign_read(prepared_key(run.model, run.run_id, "schema.json")),
        target_url=model_store.sign_write(trial_key(run.model, run.run_id, TRIAL_ID, ONNX_NAME)),
    )
    pointer = TrialPointer(model=run.model, run_id=run.run_id, trial_id=TRIAL_ID, kind="logged", check=check)
    return TrainingPlan(round=1, last_round=True, lanes=[Lane(trials=[pointer])])
