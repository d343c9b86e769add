"""Runs and their trials."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from millrace.aws.registry.keys import run_key, trial_key
from millrace.aws.registry.serialisation import decode, encode
from millrace.aws.registry.table import TableItems
from millrace.entities import Run, Trial
from millrace.errors import RunNotFoundError


class RunItems(TableItems):
    """Runs and trials."""

    def get_run(self, model: str, run_id: str) -> Run:
        """Return a run; raises ``RunNotFoundError``."""
        item = self._table.get(run_key(model, run_id))
        if item is None:
            raise _no_run(model, run_id)
        return decode(Run, item)

    def list_runs(self, model: str, limit: int = 50) -> list[Run]:
        """Return the newest runs first."""
        items = self._table.query(f"MODEL#{model}", "RUN#", newest_first=True, limit=limit)
        return [decode(Run, item) for item in items]

    def update_run(self, model: str, run_id: str, **changes: Any) -> None:
        """Change fields of a run; raises ``RunNotFoundError``."""
        _insist_on_fields(Run, changes)
        if not self._table.change(run_key(model, run_id), changes):
            raise _no_run(model, run_id)

    def put_trials(self, trials: Sequence[Trial]) -> None:
        """Record planned trials; again is the same as once."""
        for trial in trials:
            self._table.put_new({**trial_key(trial.model, trial.run_id, trial.trial_id), **encode(trial)})

    def get_trial(self, model: str, run_id: str, trial_id: str) -> Trial:
        """Return a trial; raises ``RunNotFoundError``."""
        item = self._table.get(trial_key(model, run_id, trial_id))
        if item is None:
            raise _no_trial(model, run_id, trial_id)
        return decode(Trial, item)

    def list_trials(self, model: str, run_id: str) -> list[Trial]:
        """Return a run's trials by id."""
        return [decode(Trial, item) for item in self._table.query(f"MODEL#{model}", f"TRIAL#{run_id}#")]

    def update_trial(self, model: str, run_id: str, trial_id: str, **changes: Any) -> None:
        """Change fields of a trial; raises ``RunNotFoundError``."""
        _insist_on_fields(Trial, changes)
        if not self._table.change(trial_key(model, run_id, trial_id), changes):
            raise _no_trial(model, run_id, trial_id)


def _insist_on_fields(entity_class: type[Run] | type[Trial], changes: dict[str, Any]) -> None:
    unknown = set(changes) - {field.name for field in fields(entity_class)}
    if unknown:
        raise TypeError(f"{entity_class.__name__} has no field {', '.join(sorted(unknown))}")


def _no_run(model: str, run_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"the model {model!r} has no run {run_id!r}")


def _no_trial(model: str, run_id: str, trial_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"run {run_id!r} of {model!r} has no trial {trial_id!r}")
