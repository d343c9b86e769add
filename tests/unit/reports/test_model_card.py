"""The card shows what was measured, of every task, escaped; and is made of whatever parts there are."""

import ast
import copy
import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from millrace.card import Artifact, ModelCard
from millrace.data.prepared import dump_columns
from millrace.documents import to_plain
from millrace.errors import ArtifactIntegrityError
from millrace.evaluation_results import Evaluation
from millrace.layout import evaluation_key, prepared_key
from millrace.reports.formatting import share
from millrace.reports.model_card import build_card, card_files, render_card, render_markdown, usage
from millrace.schema import TASKS, TableSchema
from millrace.spec import ModelSpec

from tests.prepared_data import make_dataset
from tests.registry_builders import make_version
from tests.training_run import MODEL, RUN_ID, TrainingRun

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "f0571cb"
#: Parts of an evaluation that may be missing, by name.
OPTIONAL = {
    field.name: field.default
    for field in msgspec.structs.fields(Evaluation)
    if not field.required and field.name != "evaluation_version"
}
ATTACK = "<script>alert('x')</script>"
SPEC = {
    "card": {"owner": "Customer care", "intended_use": f"Who to call.\n\nNot {ATTACK}."},
    "sensitive_groups": ["s0"],
    "evaluation": {"slices": [{"by": ["s0"]}], "costs": {"false_negative": 3.0}, "learning_curve": True},
}
PREPARED = {
    "datasets": [
        {
            "dataset_id": "d1",
            "uploaded_at": "2026-05-03T14:15:00+00:00",
            "rows": 800,
            "used": 790,
            "quarantined_rows": 17,
        }
    ],
    "rows": {"train": 400, "validation": 200, "test": 200},
    "split": {"by": "random", "fingerprint": "f0f0", "holdout": "the same rows in every run"},
}


@cache
def evaluated(task: str) -> tuple[TrainingRun, TableSchema, str]:
    """A real run, its schema and its evaluation as JSON."""
    dataset = make_dataset(task, rows=800)
    candidates = ("ridge",) if task == "regression" else ("logistic_regression",)
    world = TrainingRun.prepared(dataset, candidates=candidates, **SPEC)
    outcomes = world.train_all()
    city = dataset.splits["test"].features.strings[:, 0]
    world.data_store.put(prepared_key(MODEL, RUN_ID, "holdout_columns.npz"), dump_columns({"s0": city}))
    world.evaluate(outcomes)
    return world, dataset.schema, world.model_store.get(evaluation_key(MODEL, RUN_ID)).decode()


def make_card(task: str, version: bool = True, **changes: Any) -> dict[str, Any]:
    """A card of a real evaluation, as JSON."""
    world, schema, evaluation = evaluated(task)
    made = replace(make_version(3), created_at=datetime(2026, 5, 3, 15, tzinfo=UTC)) if version else None
    card = build_card(
        world.run,
        schema,
        world.registry.get_spec(MODEL),
        Evaluation.read(json.loads(evaluation) | changes),
        version=made,
        trial={"seed": 0, "libraries": {"numpy": "2"}},
        prepared=PREPARED,
        artifacts={"model.onnx": Artifact(sha256="ab" * 32, size=1234)},
    )
    return json.loads(card.write())


def contains(whole: Any, part: Any) -> bool:
    """Return True when everything of a document is in another, which may have more fields."""
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


def page_of(document: dict[str, Any]) -> str:
    return render_card(ModelCard.read(document))


def markdown_of(document: dict[str, Any]) -> str:
    return render_markdown(ModelCard.read(document))


@pytest.fixture(scope="module", params=TASKS)
def card(request) -> dict[str, Any]:
    return make_card(request.param)


@pytest.fixture(scope="module")
def binary_card() -> dict[str, Any]:
    return make_card("binary")


class Seen(HTMLParser):
    """Checks that elements are closed in order, and keeps ids and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        assert not any(name == "style" or name.startswith("on") for name, _ in attrs), (tag, attrs)
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_has_every_section_and_asks_nothing_of_a_network(card):
    page = page_of(card)
    seen = Seen(page)
    expected = {"use", "performance", "slices", "fairness", "importance", "fit", "gate", "leaderboard", "data"}
    assert expected | {"lineage", "usage"} <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert "http://" not in page
    assert "https://" not in page
    assert ATTACK not in page
    assert "&lt;script&gt;" in page
    assert len(page) < 300_000
    assert page == page_of(json.loads(json.dumps(card)))


def test_numbers_of_the_evaluation_are_on_the_page(card):
    text = " ".join(Seen(page_of(card)).texts)
    for told in ("Version 3 (1.0.3)", "promoted", "Customer care", "model.onnx", "f0f0", "200 rows"):
        assert told in text
    for check in card["evaluation"]["gate"]:
        assert check["explanation"] in text
    for part in card["evaluation"]["slices"]:
        assert part["name"] in text
    for name in ("n0", "n1", "n2", "s0", "s1"):
        assert name in text
    intervals, markdown = card["evaluation"]["prediction_intervals"], markdown_of(card)
    assert "Calibrated on 200 rows of the validation split" in markdown
    assert "calibrated on 200 rows of the validation split" in text
    for part in (*intervals["levels"], *intervals["groups"]):
        level, covered = f"{part['level']:g}", f"{part['rows']} {share(part['covered']['value'])}"
        assert f"{part.get('name', level)} {covered}" in text
        named = ", ".join([level, part["name"]] if "name" in part else [level])
        assert f"| {named} | {covered.replace(' ', ' | ', 1)} |" in markdown


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("binary", ["ROC curve", "Precision and recall", "Calibration", "Confusion matrix", "Learning curve"]),
        ("multiclass", ["Calibration", "Confusion matrix", "Learning curve"]),
        ("regression", ["Predicted and true", "Errors", "Errors by prediction", "Learning curve"]),
    ],
)
def test_each_task_has_its_figures(task, figures, request):
    page = page_of(make_card(task))
    assert re.findall(r'class="panel"><h3>([^<]*)</h3>\s*<(?:figure|div class="scroll")', page) == figures


def test_a_rejected_run_has_a_page_without_a_version():
    document = make_card(
        "binary", version=False, decision="reject", reasons=["roc_auc is 0.4 and must be at least 0.7"]
    )
    text = " ".join(Seen(page_of(document)).texts)
    assert "Evaluation of a run" in text
    assert "The gate rejected this run's winner:" in text
    assert "roc_auc is 0.4" in text
    assert "API_URL" not in text
    assert "evaluation of a run" in markdown_of(document)


def test_a_run_whose_trials_all_failed_has_a_page_too(binary_card):
    document = copy.deepcopy(binary_card)
    optional = {name: None for name, default in OPTIONAL.items() if default is None}
    failed = {"trial_id": "01-ridge", "status": "failed", "metrics": {}, "reason": "out of time", "rank": None}
    document["version"] = None
    document["evaluation"] |= optional | {
        "decision": "reject",
        "reasons": ["every trial failed"],
        "leaderboard": [document["evaluation"]["leaderboard"][0] | failed | {"candidate": "ridge"}],
    }
    text = " ".join(Seen(page_of(document)).texts)
    assert "every trial failed" in text
    assert "out of time" in text
    assert "every trial failed" in markdown_of(document)


def test_parts_that_are_missing_are_left_out(binary_card):
    assert {"holdout", "champion", "baseline", "fit", "slices", "trial_id"} <= OPTIONAL.keys()
    for part in OPTIONAL:
        document = copy.deepcopy(binary_card)
        del document["evaluation"][part]
        Seen(page_of(document))
        markdown_of(document)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_card_of_the_release_before_is_read_whole_and_shown(task):
    stored = json.loads((SAMPLES / f"card-{task}.json").read_bytes())

    card = ModelCard.read(stored)

    assert contains(to_plain(card), stored)
    assert card.evaluation.holdout.metrics[card.evaluation.primary_metric].value > 0
    assert ModelCard.read(card.write()) == card
    assert {"Version 3 (1.0.3)", "Customer care"} <= {
        part for text in Seen(render_card(card)).texts for part in (text.strip(" ."), text)
    }
    assert "# churn, version 3 (1.0.3)" in render_markdown(card)


def test_a_card_of_the_release_before_loses_its_sensitive_values_when_it_is_read():
    stored = json.loads((SAMPLES / "card-binary.json").read_bytes())
    column = next(column for column in stored["schema"]["columns"] if column["type"] == "category")
    column |= {"sensitive": True, "categories": ["Oslo"]}

    assert "Oslo" not in json.dumps(ModelCard.read(stored).schema)


def test_a_damaged_card_names_the_field(binary_card):
    with pytest.raises(ArtifactIntegrityError, match=r"ModelCard cannot be read.*version\.version"):
        ModelCard.read(binary_card | {"version": {"version": "three"}})


def test_the_use_of_the_holdout_and_the_best_champion_so_far_are_on_the_card():
    gain = {"low": -0.013, "high": 0.017}
    best = {"version": 1, "gain": gain, "metrics": {"roc_auc": 0.9}}
    champion = {
        "version": 2,
        "gain": {"low": -0.02, "high": 0.03},
        "metrics": {"roc_auc": 0.9},
        "rows": 150,
        "best": best,
    }
    use = {"fingerprint": "f", "decisions": 7, "used_rows": 140}
    document = make_card("binary", champion=champion, holdout_use=use)

    texts = " ".join(Seen(page_of(document)).texts)
    assert "rows never seen; 7 decisions before" in texts
    assert "Gain over version 1" in texts
    assert "the best champion so far" in texts
    assert "on which 7 decisions of the gate rested before" in markdown_of(document)


def test_markdown_is_a_table_of_what_counts(binary_card):
    text = markdown_of(binary_card)
    for told in ("# churn, version 3 (1.0.3)", "Decision: **promoted**", "| ROC AUC |", "## Owner", "| n1 |", "`d1`"):
        assert told in text
    assert "| s0 is Oslo |" in text


def test_the_calibration_of_probabilities_and_what_it_brought_are_on_the_card(binary_card):
    own = (
        "The probabilities are the estimator's own: of the calibrations tried, on 200 rows outside the fit none gained"
    )
    assert own in " ".join(Seen(page_of(binary_card)).texts)
    effect = {"raw_log_loss": 0.42, "log_loss": 0.37, "raw_expected_error": 0.081, "expected_error": 0.038}
    scaled = {"method": "beta", "rows": 200, "log_loss": 0.43, "scaled_log_loss": 0.38, "holdout": effect}
    document = copy.deepcopy(binary_card)
    document["evaluation"]["probability_calibration"] = scaled
    for text in (" ".join(Seen(page_of(document)).texts), markdown_of(document)):
        assert "calibrated (beta calibration) on 200 rows outside the fit" in text
        assert "the log loss is 0.37 instead of 0.42" in text
        assert "expected calibration error 0.038 instead of 0.081" in text


def test_a_sample_is_never_silent(binary_card):
    search = {
        **binary_card["evaluation"]["search"],
        "rows": 100_000,
        "of_rows": 240_000,
        "why_sampled": "the spec says so",
    }
    sampled = copy.deepcopy(binary_card)
    sampled["evaluation"]["search"] = search
    sampled["data"]["sample"] = {"rows": 400_000, "of_rows": 1_250_000}
    told = [
        "400,000 of 1,250,000 rows were taken into the three splits",
        "trained on 100,000 of 240,000 training rows: the spec says so",
    ]
    page, text = " ".join(Seen(page_of(sampled)).texts), markdown_of(sampled)
    assert all(sentence in page and sentence in text for sentence in told)
    for whole in (page_of(binary_card), markdown_of(binary_card)):
        assert "rows were taken" not in whole
        assert "trained on" not in whole


def test_the_three_files_say_the_same(binary_card):
    files = card_files(ModelCard.read(binary_card))
    assert set(files) == {"card.json", "card.html", "card.md"}
    assert json.loads(files["card.json"]) == binary_card
    assert binary_card["data"]["datasets"][0]["report"] == "datasets/churn/d1/report.html"


def test_requests_are_whole(binary_card):
    commands = dict(usage(ModelCard.read(binary_card)))
    words = shlex.split(commands["This version, with curl"])
    assert json.loads(words[words.index("--data") + 1]) == {"dataframe_records": [binary_card["example"]]}
    assert words[-1].endswith("models/churn/versions/3/invocations")
    program = ast.parse(commands["This version, in Python"])
    bodies = [
        node.value for node in ast.walk(program) if isinstance(node, ast.Constant) and "dataframe" in str(node.value)
    ]
    assert json.loads(bodies[0]) == {"dataframe_records": [binary_card["example"]]}
    words = shlex.split(commands["The champion, from the command line"])
    assert words[:3] == ["millrace", "predict", "churn"]
    assert json.loads(words[3]) == binary_card["example"]


@pytest.mark.parametrize(("rows", "greatest", "stands"), [(200, 0.99, True), (9, 0.9, True), (5, 0.833, False)])
def test_a_request_with_sets_stands_where_the_version_has_them(binary_card, rows, greatest, stands):
    document = copy.deepcopy(binary_card)
    document["evaluation"]["prediction_intervals"] = {
        "source": "validation", "rows": rows, "greatest_level": greatest, "levels": []
    }  # fmt: skip
    command = dict(usage(ModelCard.read(document))).get("With sets of likely classes", "")
    assert (shlex.split(command)[-2:] == ["--interval", "0.9"]) == stands
    document["evaluation"]["prediction_intervals"] = None
    assert "With sets of likely classes" not in dict(usage(ModelCard.read(document)))


def test_a_quote_in_the_data_does_not_break_a_request(binary_card):
    document = copy.deepcopy(binary_card)
    document["example"] = {"city": 'L\'Aquila "x" $HOME `id`'}
    for title, text in usage(ModelCard.read(document)):
        if title in ("The champion, from the command line", "This version, with curl"):
            assert any("L'Aquila" in word and "$HOME `id`" in word for word in shlex.split(text))


def test_sensitive_values_are_not_in_the_example():
    dataset = make_dataset("binary")
    columns = [
        replace(column, categories=("Oslo",), sensitive=True) if column.name == "s0" else column
        for column in dataset.schema.columns
    ]
    world = TrainingRun.prepared(dataset)
    schema = replace(dataset.schema, columns=tuple(columns))
    card = build_card(world.run, schema, ModelSpec(), Evaluation.read(evaluated("binary")[2]))
    assert card.example["s0"] is None


def test_warnings_of_the_data_and_of_the_gate_are_shown_once_at_the_top():
    leak = "a feature, 'alive', gives the target away: write columns: {alive: {role: ignored}} in the spec"
    document = make_card("binary")
    document["data"]["findings"] = [
        {"severity": "warning", "check": "leakage", "message": leak},
        {"severity": "info", "check": "new_schema", "message": "a new column"},
    ]
    (check,) = [check for check in document["evaluation"]["gate"] if check["name"] == "leakage"]
    check |= {"explanation": leak, "warning": True}

    texts, written = Seen(page_of(document)).texts, markdown_of(document)

    assert "Warnings: 1 finding of the data and the holdout" in texts
    assert leak in texts
    assert written.count("**Warning:** a feature, 'alive', gives the target away") == 1
    assert "a new column" not in written
    check["explanation"] = "the model is nearly perfect on the holdout"
    assert "Warnings: 2 findings" in " ".join(Seen(page_of(document)).texts)


def test_trials_of_one_candidate_are_told_apart_by_number_and_parameters():
    document = make_card("binary")
    entry = document["evaluation"]["leaderboard"][0]
    second = entry | {"trial_id": "08-logistic_regression", "parameters": {"C": 0.25}}
    document["evaluation"]["leaderboard"] = [entry, second]

    text = " ".join(Seen(page_of(document)).texts)

    assert "01-logistic_regression" in text
    assert "08-logistic_regression" in text
    assert "C 0.25" in text
    assert "| 08-logistic_regression | C 0.25 |" in markdown_of(document)


def test_losses_and_errors_have_names_and_units():
    page = " ".join(Seen(page_of(make_card("regression"))).texts)
    assert "Excess squared error" in page
    assert "Errors are in the unit of target." in page
    assert "Excess log loss" in " ".join(Seen(page_of(make_card("binary"))).texts)


def test_what_was_inferred_of_the_data_is_on_the_card(binary_card):
    columns = [
        {"name": "row", "type": "integer", "role": "identifier", "reason": "row numbers"},
        {"name": "name", "type": "category", "role": "ignored", "reason": "free text"},
    ]
    document = copy.deepcopy(binary_card)
    document["schema"]["columns"] += columns

    shown = " ".join(Seen(page_of(document)).texts)
    for text in ("row: row numbers", "name: free text", "2 category, 3 number", "Quarantined", "17"):
        assert text in shown
    written = markdown_of(document)
    assert "* `d1`: 790 of 800 rows used, 17 more quarantined" in written
    assert "Not features: row (row numbers), name (free text)." in written


def test_commands_that_change_the_next_run_are_whole(binary_card):
    document = copy.deepcopy(binary_card)
    document["evaluation"]["target"] = "paid out?"
    document["evaluation"]["importance"]["columns"][-1]["name"] = "what's left"

    commands = dict(usage(ModelCard.read(document)))

    words = shlex.split(commands["Without a column"])
    assert words[:3] == ["millrace", "train", "churn"]
    assert words[4:] == ["--target", "paid out?", "--ignore", "what's left", "--schema", "replace"]
    assert commands["Another primary metric, from the next run on"] == "millrace spec set churn primary_metric=pr_auc"


def test_every_reason_and_every_warning_is_on_the_page(binary_card):
    document = copy.deepcopy(binary_card)
    document["evaluation"]["reasons"] = [f"reason {number}." for number in range(12)]
    finding = {"severity": "warning", "check": "range"}
    document["data"]["findings"] = [finding | {"message": f"warning {number}."} for number in range(12)]

    text = " ".join(Seen(page_of(document)).texts)

    assert all(f"reason {number}." in text and f"warning {number}." in text for number in range(12))


def test_a_metric_without_an_interval_says_why_and_that_the_gate_does_without(binary_card):
    document = copy.deepcopy(binary_card)
    reason = "3 rows of one class; an interval needs 5"
    metrics = document["evaluation"]["holdout"]["metrics"]
    metrics["roc_auc"] = {"value": 0.9, "low": None, "high": None, "reason": reason}

    for text in (page_of(document), markdown_of(document)):
        assert f"Without an interval: ROC AUC ({reason})" in re.sub(r"\\", "", text)
        assert "The gate does not need these intervals" in text
        assert "too few rows" in text
