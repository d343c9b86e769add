"""Choose the target and infer its task and classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from millrace.data.findings import Finding, error, listed, quoted, warning
from millrace.data.typed_table import class_texts
from millrace.errors import InvalidInputError
from millrace.features import missing_mask
from millrace.schema import MASK, TASKS, Column, Task
from millrace.spec import ModelSpec

TARGET_NAMES = ("target", "label", "y", "class")
MAX_TARGET_CLASSES = 100
#: An integer target with more distinct values than this is a quantity.
MAX_INTEGER_CLASSES = 20
#: One row for each split.
MIN_TARGET_CLASS_ROWS = 3
#: Share of the rows that may be of classes with fewer: those classes are left out, instead of the file.
MAX_RARE_SHARE = 0.01

HOW_TO_NAME_IT = "name it: `millrace train MODEL FILE --target COLUMN`, or object metadata `target`"


@dataclass(frozen=True, slots=True)
class TargetInference:
    """The target as inferred: classes are sorted, and none for regression; errors when it cannot be predicted."""

    column: Column
    task: Task
    classes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def choose_target(names: Sequence[str], spec: ModelSpec, metadata: Mapping[str, str]) -> str:
    """Return the name of the column to predict; an ``InvalidInputError`` says how to name an unknown one."""
    wanted = spec.target_name or metadata.get("target", "").strip()
    if wanted:
        if wanted in names:
            return wanted
        alike = [name for name in names if name.lower() == wanted.lower()]
        if len(alike) == 1:
            return alike[0]
        raise InvalidInputError(f"there is no column {wanted!r} to predict; the columns are {listed(names)}")
    found = [name for name in names if name.lower() in TARGET_NAMES]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInputError(f"{listed(found)} could each be the column to predict; {HOW_TO_NAME_IT}")
    raise InvalidInputError(
        f"no column is called {', '.join(TARGET_NAMES[:-1])} or {TARGET_NAMES[-1]}, so the "
        f"column to predict is unknown; {HOW_TO_NAME_IT}. The columns are {listed(names)}"
    )


def wanted_task(spec: ModelSpec, metadata: Mapping[str, str]) -> Task | None:
    """Return the task of the spec or the metadata, if any; ``InvalidInputError`` when the latter name no task."""
    if spec.task:
        return spec.task
    text = metadata.get("task", "").strip().lower()
    found = next((task for task in TASKS if text == task), None)
    if found or not text:
        return found
    raise InvalidInputError(f"metadata `task` is {text!r}; it can be {quoted(TASKS)}")


def infer_target(column: Column, values: npt.NDArray[np.generic], wanted: Task | None) -> TargetInference:
    """Infer the task and the classes from the target's typed values; rows where it is missing do not count."""
    known = values[~missing_mask(values)]
    name = column.name
    if not len(known):
        return _impossible(column, "empty_target", f"every value of the target {name!r} is missing")
    if column.type in ("text", "datetime"):
        what = column.reason or ("it holds dates" if column.type == "datetime" else "it is said to be text")
        return _impossible(column, "target_type", f"the target {name!r} cannot be predicted: {what}")
    distinct = len(np.unique(known.astype(np.str_) if known.dtype == object else known))
    if distinct == 1:
        only = MASK if column.sensitive else repr(str(class_texts(column, ("false", "true"), known[:1])[0]))
        message = f"every row has the same target {name!r}: {only}; upload rows of at least two classes"
        return _impossible(column, "single_class", message)
    numeric = column.type in ("integer", "number")
    if wanted == "regression" or (wanted is None and numeric and not _looks_like_classes(column, distinct)):
        if not numeric:
            message = f"the target {name!r} holds words, and regression needs numbers"
            return _impossible(column, "target_type", message, "regression")
        found = []
        whole = bool(np.all(known.astype(np.float64) % 1 == 0))
        if wanted is None and whole and distinct <= MAX_TARGET_CLASSES:
            message = (
                f"the target {name!r} was read as a number; to predict its {distinct} values as classes, set task: "
            )
            found.append(warning("task", f"{message}multiclass in the spec", name))
        return TargetInference(replace(column, reason=""), "regression", (), tuple(found))
    return _classification(column, known, distinct, wanted)


_OR_AS_NUMBER = "; or, where they are amounts, predict the number (metadata `task` regression, or in the spec)"


def _looks_like_classes(column: Column, distinct: int) -> bool:
    return distinct == 2 or (column.type == "integer" and distinct <= MAX_INTEGER_CLASSES)  # noqa: PLR2004  # a pair


def _classification(
    column: Column, known: npt.NDArray[np.generic], distinct: int, wanted: Task | None
) -> TargetInference:
    name = column.name
    if distinct > MAX_TARGET_CLASSES:
        return _impossible(
            column,
            "too_many_classes",
            f"the target {name!r} has {distinct:,} classes; at most {MAX_TARGET_CLASSES} are supported: merge the "
            f"rarer ones into one, such as 'other'{_OR_AS_NUMBER if column.type in ('integer', 'number') else ''}",
        )
    if column.type == "number" and bool(np.all(known.astype(np.float64) % 1 == 0)):
        column = replace(column, type="integer")
    column, classes = _name_classes(column, known)
    classes, findings = _leave_out_rare_classes(column, classes, known)
    task: Task = "binary" if len(classes) == 2 else "multiclass"  # noqa: PLR2004  # a pair
    if wanted == "binary" and task != "binary":
        findings.append(error("task", f"the target {name!r} has {len(classes)} classes; a binary task has two", name))
    elif wanted and wanted != task:
        findings.append(warning("task", f"the target {name!r} has two classes, so the task is binary", name))
    if wanted is None and column.type == "integer" and task == "multiclass":
        message = (
            f"the {distinct} whole numbers of the target {name!r} were read as classes; to predict the number, set "
        )
        findings.append(warning("task", f"{message}task: regression in the spec", name))
    return TargetInference(column, task, classes, (*findings, *small_classes(column, classes, known)))


def _leave_out_rare_classes(
    column: Column, classes: tuple[str, ...], known: npt.NDArray[np.generic]
) -> tuple[tuple[str, ...], list[Finding]]:
    """Return the classes without those too rare to learn, when these are few among many rows, and a warning each.

    The rows of a class that is left out are quarantined, as those of an unknown class are.
    """
    rare = _counts_of_rare(column, classes, known)
    kept = tuple(name for name in classes if name not in rare)
    if not rare or len(kept) < 2 or sum(rare.values()) > MAX_RARE_SHARE * len(known):  # noqa: PLR2004  # a pair
        return classes, []
    return kept, [
        warning(
            "rare_class",
            f"{_describe_class(column, name, count)} of {len(known):,}: left out, its rows are quarantined; "
            f"each class needs at least {MIN_TARGET_CLASS_ROWS} (add rows, or merge it into another)",
            column.name,
            count,
        )
        for name, count in rare.items()
    ]


def _counts_of_rare(column: Column, classes: tuple[str, ...], known: npt.NDArray[np.generic]) -> dict[str, int]:
    """Return the rows of each class with too few for all splits."""
    names, counts = np.unique(class_texts(column, classes, known).astype(np.str_), return_counts=True)
    few = zip(names.tolist(), counts.tolist(), strict=True)
    return {name: count for name, count in few if count < MIN_TARGET_CLASS_ROWS and name in classes}


def _describe_class(column: Column, name: str, count: int) -> str:
    shown = MASK if column.sensitive else repr(name)
    return f"class {shown} of the target {column.name!r} has {count} row{'s' if count > 1 else ''}"


def small_classes(column: Column, classes: tuple[str, ...], known: npt.NDArray[np.generic]) -> list[Finding]:
    """Return an error for every class with too few rows for all splits."""
    return [
        error(
            "small_class",
            f"{_describe_class(column, name, count)}; "
            f"each class needs at least {MIN_TARGET_CLASS_ROWS}: add rows, or leave the class out"
            f"{_OR_AS_NUMBER if column.type in ('integer', 'number') else ''}",
            column.name,
            count,
        )
        for name, count in _counts_of_rare(column, classes, known).items()
    ]


def _name_classes(column: Column, known: npt.NDArray[np.generic]) -> tuple[Column, tuple[str, ...]]:
    """Name the classes: numbers in their order, booleans with the false one first, strings as they are written."""
    if column.type == "boolean":
        if not column.true_values:
            return column, ("false", "true")
        written = tuple(sorted(column.categories, key=str.lower))
        lowered = (*column.false_values, *column.true_values)
        return column, written if tuple(string.lower() for string in written) == lowered else lowered
    names = set(class_texts(column, (), known).tolist())
    return column, tuple(sorted(names, key=float) if column.type in ("integer", "number") else sorted(names))


def _impossible(column: Column, check: str, message: str, task: Task = "multiclass") -> TargetInference:
    return TargetInference(column, task, (), (error(check, message, column.name),))
