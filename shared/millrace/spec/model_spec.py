"""The whole spec of a model, and the rules across its parts."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticSerializationError

from millrace.errors import InvalidInputError
from millrace.schema import MAX_COLUMNS, Role, Task
from millrace.spec.data import MAX_DAYS, ColumnSpec, DatasheetSpec, ReadSpec, SplitSpec, TableChecks
from millrace.spec.monitoring import MonitoringSpec
from millrace.spec.operations import (
    ApprovalSpec,
    BudgetSpec,
    CaptureSpec,
    CardSpec,
    FeedbackSpec,
    RetentionSpec,
    RetrainingSpec,
    ScoringSpec,
)
from millrace.spec.part import SpecPart, invalid_input
from millrace.spec.release import ReleaseSpec
from millrace.spec.training import EvaluationSpec, GateSpec, TrainingSpec


class ModelSpec(SpecPart):
    """Spec of a model; every field has a default."""

    #: The column to predict; None takes the column named ``target``, ``label``, ``y`` or ``class``.
    target: str | None = None
    task: Task | None = None  # none infers it from the target
    combine: Literal["all", "latest"] = "all"  # train on every accepted dataset of the window, or on the newest only
    window_days: int | None = Field(
        default=None, gt=0, le=MAX_DAYS
    )  # datasets older than this are left out; None takes all
    #: Of more, a sample is taken, and always the same one.
    max_training_rows: int = Field(default=1_000_000, ge=100, le=10_000_000)
    #: Share of rows that may be malformed before the whole dataset is rejected.
    max_quarantined_share: float = Field(default=0.2, ge=0.0, le=1.0)
    candidates: tuple[str, ...] | None = None  # none takes all that suit the task
    primary_metric: str | None = None  # ranks candidates; None takes the task's own
    seed: int = Field(default=0, ge=0, lt=2**32)  # as NumPy's
    training: TrainingSpec = TrainingSpec()
    gate: GateSpec = GateSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    #: Overrides of what is inferred.
    columns: Annotated[dict[str, ColumnSpec], Field(max_length=MAX_COLUMNS)] = Field(default_factory=dict)
    checks: TableChecks = TableChecks()
    read: ReadSpec = ReadSpec()
    split: SplitSpec = SplitSpec()
    id_column: str | None = None  # the column that names a row; None infers it
    sensitive_groups: tuple[str, ...] = ()  # columns whose values are groups of people to be treated alike
    datasheet: DatasheetSpec = DatasheetSpec()
    approval: ApprovalSpec = ApprovalSpec()
    release: ReleaseSpec = ReleaseSpec()
    retention: RetentionSpec = RetentionSpec()
    capture: CaptureSpec = CaptureSpec()
    feedback: FeedbackSpec = FeedbackSpec()
    retraining: RetrainingSpec = RetrainingSpec()
    monitoring: MonitoringSpec = MonitoringSpec()
    scoring: ScoringSpec = ScoringSpec()
    budget: BudgetSpec | None = None
    card: CardSpec = CardSpec()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        faults = list(self._contradictions())
        if faults:
            raise ValidationError.from_exception_data("ModelSpec", faults)
        return self

    @property
    def target_name(self) -> str | None:
        """The column to predict, where it was named."""
        return self.target or next(iter(self._with_role("target")), None)

    @property
    def identifier_name(self) -> str | None:
        """The column that names a row, where it was named."""
        return self.id_column or next(iter(self._with_role("identifier")), None)

    def _with_role(self, role: Role) -> list[str]:
        return [name for name, column in self.columns.items() if column.role == role]

    def _contradictions(self) -> Iterator[InitErrorDetails]:
        target, identifier = self.target_name, self.identifier_name
        named: list[tuple[Role, str | None]] = [("target", target), ("identifier", identifier)]
        for role, name in named:
            for other in self._with_role(role):
                if other != name:
                    yield _fault(("columns", other, "role"), f"the {role} is {name!r} already", other)
            stated = self.columns[name].role if name in self.columns else None
            if stated not in (None, role):
                yield _fault(("columns", name or "", "role"), f"{name!r} is the {role}, not {stated}", stated)
        if target is None:
            return
        if target == identifier:
            yield _fault(("id_column",), "the target cannot be the identifier", identifier)
        if target == self.split.column:
            yield _fault(("split", "column"), "the target cannot decide the split", target)
        if target in self.sensitive_groups:
            yield _fault(("sensitive_groups",), "the target cannot be a group", target)
        if any(target in declared.columns for declared in self.evaluation.slices):
            yield _fault(
                ("evaluation", "slices"), "the target is not known when a row is scored: no slice by it", target
            )

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a spec; raises ``InvalidInputError``, which names every bad field."""
        try:
            spec = cls.model_validate(dict(document))
            spec.model_dump_json()
        except ValidationError as error:
            raise invalid_input("the model spec is not valid", error) from error
        except PydanticSerializationError as error:
            raise InvalidInputError("the model spec holds half a character (a lone surrogate)") from error
        return spec

    @classmethod
    def read_stored(cls, document: dict[str, Any]) -> Self:
        """Read a spec that was accepted once, without the fields that are refused by now: no run could use them."""
        while True:
            try:
                return cls.model_validate(document)
            except ValidationError as error:
                faults = [fault["loc"] for fault in error.errors() if fault["loc"]]
                if not faults:
                    raise invalid_input("the stored model spec is not valid", error) from error
                _without(document, faults[-1])


def _without(document: Any, location: tuple[int | str, ...]) -> None:
    """Remove the innermost field of a location that the document has: pydantic's also name types."""
    owner, place = document, location[0]
    for step in location:
        if (isinstance(document, list) and isinstance(step, int)) or (isinstance(document, dict) and step in document):
            owner, place = document, step
            document = document[step]  # type: ignore[index]  # the check above is lost on mypy
    del owner[place]


def _fault(location: tuple[str, ...], message: str, value: Any) -> InitErrorDetails:
    kind = PydanticCustomError("contradiction", "{reason}", {"reason": message})
    return InitErrorDetails(type=kind, loc=location, input=value)
