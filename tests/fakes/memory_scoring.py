"""A scoring pipeline that only remembers what it was asked to run."""


class MemoryScoring:
    """Implements :class:`millrace.ports.ScoringPipeline`; executions run until they are stopped."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []

    def start(self, model: str, job_id: str, execution: str) -> bool:
        if execution not in self.started:
            self.started.append(execution)
        return execution not in self.stopped

    def stop(self, execution: str, reason: str) -> None:
        if execution in self.started:
            self.stopped.append(execution)
