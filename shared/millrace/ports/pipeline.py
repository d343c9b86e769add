"""The pipelines, and what they wait for."""

from typing import Protocol


class PipelineStarter(Protocol):
    """Starts training runs, and knows whether one is going."""

    def start(self, model: str, run_id: str) -> bool:
        """Start the run's execution under the run's id; starting it again changes nothing.

        Returns whether it is going: False when an execution of that run has ended already.
        """
        ...

    def is_running(self, run_id: str) -> bool:
        """Tell whether the run's execution is still going."""
        ...

    def stop(self, run_id: str, reason: str) -> None:
        """Stop the run's execution; one that has ended, or never began, is none to stop."""
        ...


class MonitoringPipeline(Protocol):
    """Looks at models when somebody asks for it, beside its schedule."""

    def start(self, model: str, name: str) -> None:
        """Start looking at a model, under that name; starting it again changes nothing."""
        ...

    def status(self, name: str) -> str:
        """Return ``running``, ``succeeded`` or ``failed``; raises ``RunNotFoundError`` when there is no such look."""
        ...


class TaskCallback(Protocol):
    """Tells a pipeline that waits what it waits for."""

    def answer(self, task_token: str, outcome: str) -> bool:
        """End the wait that ``task_token`` stands for; False when nobody waits with it (any more)."""
        ...


class Notifier(Protocol):
    """Tells people."""

    def notify(self, subject: str, message: str) -> None:
        """Send a message; a subject is one line of at most 100 ASCII characters."""
        ...
