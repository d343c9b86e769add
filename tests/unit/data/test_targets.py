"""Which column is predicted, and what can be learnt from it."""

import numpy as np
import pyarrow as pa
import pytest
from millrace.data.findings import errors_among
from millrace.data.target import TargetInference, choose_target, infer_target, wanted_task
from millrace.data.typed_table import encode_target, parse_column
from millrace.errors import InvalidInputError
from millrace.schema import Column, TableSchema, Task
from millrace.spec import ModelSpec

from tests.tables import infer_column


def validate(*values: str | None, repeat: int = 10, wanted: Task | None = None) -> TargetInference:
    cells = pa.array(list(values) * repeat, pa.string())
    column = infer_column("y", cells, is_target=True).column
    return infer_target(column, parse_column(column, cells).values, wanted)


def refusal(outcome: TargetInference) -> str:
    return " ".join(finding.message for finding in errors_among(outcome.findings))


@pytest.mark.parametrize(
    ("names", "spec", "metadata", "expected"),
    [
        (["a", "target"], {}, {}, "target"),
        (["a", "Label"], {}, {}, "Label"),
        (["Y", "b"], {}, {}, "Y"),
        (["a", "CLASS"], {}, {}, "CLASS"),
        (["a", "target"], {}, {"target": "a"}, "a"),
        (["a", "target"], {"target": "a"}, {"target": "target"}, "a"),
        (["Survived", "b"], {}, {"target": "survived"}, "Survived"),
    ],
)
def test_the_target_is_the_one_named_else_the_one_called_so(names, spec, metadata, expected):
    assert choose_target(names, ModelSpec(**spec), metadata) == expected


@pytest.mark.parametrize("names", [["a", "b"], ["target", "y"]])
def test_when_the_target_cannot_be_told_the_verdict_says_how_to_name_it(names):
    with pytest.raises(InvalidInputError, match=r"millrace train MODEL FILE --target COLUMN.*metadata `target`"):
        choose_target(names, ModelSpec(), {})


def test_a_target_that_is_not_there_is_told_with_the_columns_that_are():
    with pytest.raises(InvalidInputError, match=r"no column 'c'.*'a', 'b'"):
        choose_target(["a", "b"], ModelSpec(target="c"), {})


def test_a_task_that_does_not_exist_is_refused():
    assert wanted_task(ModelSpec(task="regression"), {"task": "binary"}) == "regression"
    assert wanted_task(ModelSpec(), {"task": " Binary "}) == "binary"
    with pytest.raises(InvalidInputError, match="'clustering'"):
        wanted_task(ModelSpec(), {"task": "clustering"})


@pytest.mark.parametrize(
    ("values", "wanted", "task", "classes"),
    [
        (("0", "1"), None, "binary", ("0", "1")),
        (("+1", "-1"), None, "binary", ("-1", "1")),
        (("True", "false"), None, "binary", ("false", "true")),
        (("Yes", "No"), None, "binary", ("No", "Yes")),
        (("yes", "Yes", "NO"), None, "binary", ("no", "yes")),
        (("Y", "n"), None, "binary", ("n", "Y")),
        (("b", "a", "c"), None, "multiclass", ("a", "b", "c")),
        (("2", "10", "1"), None, "multiclass", ("1", "2", "10")),
        (("1.0", "2.0"), None, "binary", ("1", "2")),
        (("0.5", "1.5"), None, "binary", ("0.5", "1.5")),
        (("1.5", "2.5", "3.5"), None, "regression", ()),
        (tuple(str(i) for i in range(20)), None, "multiclass", tuple(str(i) for i in range(20))),
        (tuple(str(i) for i in range(21)), None, "regression", ()),
        (tuple(str(i) for i in range(21)), "multiclass", "multiclass", tuple(str(i) for i in range(21))),
        (("1", "2", "3"), "regression", "regression", ()),
        (("a", "b"), "multiclass", "binary", ("a", "b")),
    ],
)
def test_task_and_classes_follow_from_the_target(values, wanted, task, classes):
    outcome = validate(*values, None, wanted=wanted)
    assert (outcome.task, outcome.classes) == (task, classes)
    assert refusal(outcome) == ""


@pytest.mark.parametrize(
    ("values", "wanted", "said"),
    [
        ((None,), None, "every value of the target 'y' is missing"),
        (("1",), None, "every row has the same target 'y': '1'"),
        (("yes",), None, "every row has the same target 'y': 'yes'"),
        (("2.0",), None, "every row has the same target"),
        (("2024-01-01", "2024-01-02"), None, "it holds dates"),
        (("x" * 200, "y"), None, "free text"),
        (tuple(f"c{i}" for i in range(101)), None, "101 classes; at most 100"),
        (tuple(str(i) for i in range(101)), "multiclass", "101 classes; at most 100"),
        (
            tuple(f"c{i}" for i in range(500)),
            None,
            "500 classes; at most 100 are supported: merge the rarer ones",
        ),
        (tuple(str(i) for i in range(500)), "multiclass", "or, where they are amounts, predict the number"),
        (("a", "b"), "regression", "regression needs numbers"),
        (("a", "b", "c"), "binary", "a binary task has two"),
    ],
)
def test_targets_from_which_nothing_can_be_learnt_are_refused(values, wanted, said):
    assert said in refusal(validate(*values, wanted=wanted))


def test_a_target_that_is_said_to_be_text_is_refused_for_that():
    said = infer_target(Column("y", "text", "target"), np.array(["a", "b"], dtype=object), None)
    assert refusal(said) == "the target 'y' cannot be predicted: it is said to be text"


def test_a_hundred_classes_are_taken_and_five_hundred_numbers_are_amounts():
    hundred = validate(*(f"c{i}" for i in range(100)))
    assert (len(hundred.classes), refusal(hundred)) == (100, "")
    assert "regression" not in refusal(validate(*(f"c{i}" for i in range(101))))
    assert validate(*(str(i) for i in range(500))).task == "regression"


def test_a_class_with_too_few_rows_is_named():
    outcome = validate(*["a"] * 20, *["b"] * 20, "rare", "rare", "lonely", repeat=1)
    assert "class 'rare' of the target 'y' has 2 rows" in refusal(outcome)
    assert "class 'lonely' of the target 'y' has 1 row;" in refusal(outcome)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "0", "2", None), [1, 0, 2, -1]),
        (("Yes", "No", None), [1, 0, -1]),
        (("true", "false"), [1, 0]),
        (("b", "a", "c"), [1, 0, 2]),
        (("2.0", "1.0"), [1, 0]),
        (("1.5", "0.5"), [1, 0]),
    ],
)
def test_classes_become_their_indices(values, expected):
    cells = pa.array(list(values) * 10, pa.string())
    outcome = validate(*values)
    schema = TableSchema((outcome.column,), outcome.task, outcome.classes)
    encoded = encode_target(schema, parse_column(outcome.column, cells).values)
    assert encoded.tolist() == expected * 10


def rare(*counts: tuple[str, int]) -> TargetInference:
    """Infer from so many rows of each class."""
    cells = pa.array([name for name, count in counts for _ in range(count)], pa.string())
    column = infer_column("y", cells, is_target=True).column
    return infer_target(column, parse_column(column, cells).values, None)


@pytest.mark.parametrize(
    ("counts", "classes", "task"),
    [
        (
            (("Good", 3_000), ("Bad", 2_400), ("Neutral", 115), ("Reformed", 2)),
            ("Bad", "Good", "Neutral"),
            "multiclass",
        ),
        ((("yes", 300), ("no", 400), ("n.k.", 1)), ("no", "yes"), "binary"),
        ((("1", 300), ("2", 400), ("7", 2)), ("1", "2"), "binary"),
        ((("a", 600), ("b", 600), ("c", 2), ("d", 1)), ("a", "b"), "binary"),
    ],
)
def test_a_rare_class_among_many_rows_is_left_out_with_a_warning(counts, classes, task):
    outcome = rare(*counts)

    assert errors_among(outcome.findings) == []
    assert (outcome.classes, outcome.task) == (classes, task)
    left_out = {name for name, _ in counts} - set(classes)
    messages = [finding.message for finding in outcome.findings if finding.check == "rare_class"]
    assert len(messages) == len(left_out)
    assert all("left out, its rows are quarantined" in message for message in messages)


@pytest.mark.parametrize(
    "counts",
    [
        (("a", 100), ("b", 80), ("c", 2)),  # one per cent of the rows and more
        (("a", 1_000), ("b", 2)),  # one class would be left
    ],
)
def test_rare_classes_that_are_not_few_reject_the_file(counts):
    assert "each class needs at least 3: add rows, or leave the class out" in refusal(rare(*counts))


def test_a_count_with_rare_values_may_be_predicted_as_a_number():
    message = refusal(rare(*((str(value), count) for value, count in enumerate([40, 30, 20, 9, 5, 2, 1]))))
    assert "predict the number (metadata `task` regression" in message
