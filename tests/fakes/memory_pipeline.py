"""A training pipeline that only remembers what it was asked to run."""


class MemoryPipeline:
    """Implements :class:`millrace.ports.PipelineStarter`; executions run until :meth:`finish` is called."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.stopped: list[tuple[str, str]] = []
        self._running: set[str] = set()

    def start(self, model: str, run_id: str) -> bool:
        if (model, run_id) not in self.started:
            self.started.append((model, run_id))
            self._running.add(run_id)
        return self.is_running(run_id)

    def is_running(self, run_id: str) -> bool:
        return run_id in self._running

    def stop(self, run_id: str, reason: str) -> None:
        if run_id in self._running:
            self.stopped.append((run_id, reason))
            self._running.discard(run_id)

    def finish(self, run_id: str) -> None:
        """End an execution, however it ended."""
        self._running.discard(run_id)
