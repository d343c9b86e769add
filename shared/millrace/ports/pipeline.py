"""The training pipeline."""

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
