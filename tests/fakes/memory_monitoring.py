"""Monitoring pipeline in memory that only records its executions."""

from collections.abc import Sequence

from millrace.errors import RunNotFoundError


class MemoryMonitoring:
    """Implements :class:`millrace.ports.MonitoringPipeline`."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []

    def start(self, model: str, name: str) -> None:
        if (model, name) not in self.started:
            self.started.append((model, name))

    def start_batch(self, models: Sequence[str], name: str) -> None:
        self.started += [(model, name) for model in models if (model, name) not in self.started]

    def status(self, name: str) -> str:
        raise RunNotFoundError(name)
