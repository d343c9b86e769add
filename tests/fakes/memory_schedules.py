"""Schedules in memory."""

from millrace.errors import InvalidInputError
from millrace.ports import Purpose, Schedule


class MemorySchedules:
    """Implements :class:`millrace.ports.Schedules`; refuses what it is told to refuse."""

    def __init__(self, refused: str | None = None) -> None:
        self.refused = refused
        self.kept: dict[tuple[str, Purpose], Schedule] = {}

    def get(self, model: str, purpose: Purpose) -> Schedule | None:
        return self.kept.get((model, purpose))

    def put(self, schedule: Schedule) -> None:
        if schedule.expression == self.refused:
            raise InvalidInputError(f"{schedule.expression!r} is refused as a schedule")
        self.kept[schedule.model, schedule.purpose] = schedule

    def delete(self, model: str, purpose: Purpose) -> None:
        self.kept.pop((model, purpose), None)
