"""People who are told, and a pipeline that waits for what they say."""


class MemoryCallback:
    """Implements :class:`millrace.ports.TaskCallback`; waits with the tokens it is given."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.answers: list[tuple[str, str]] = []

    def complete(self, task_token: str, outcome: str) -> bool:
        if task_token not in self.waiting:
            return False
        self.waiting.discard(task_token)
        self.answers.append((task_token, outcome))
        return True


class MemoryNotifier:
    """Implements :class:`millrace.ports.Notifier`."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    def notify(self, subject: str, message: str) -> None:
        self.messages.append((subject, message))
