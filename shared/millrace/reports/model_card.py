"""The model card: gathered from stored documents, and rendered as an HTML page and as Markdown."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

import millrace
from millrace.card import CARD, Artifact, CardRun, CardVersion, ModelCard, TrainingData
from millrace.documents import from_plain, to_plain
from millrace.entities import ModelVersion, Run
from millrace.evaluation_results import (
    CalibrationCurve,
    ClassResult,
    ConfusionMatrix,
    Evaluation,
    FeatureImportance,
    LeaderboardEntry,
    LearningCurve,
    ProbabilityCalibration,
)
from millrace.layout import dataset_key
from millrace.metrics.catalogue import METRICS, METRICS_BY_NAME
from millrace.names import CHAMPION
from millrace.quantities import format_share
from millrace.reports import charts
from millrace.reports.charts import Bar, Chart, Line, Series
from millrace.reports.formatting import count, interval, metric_label, number, share
from millrace.reports.render import Render, render
from millrace.schema import TableSchema
from millrace.serving.openapi import example_row
from millrace.spec import ModelSpec

CARD_PAGE = "card.html"
CARD_MARKDOWN = "card.md"

#: The gate's decisions: badge, tone, and the head of the reasons.
_DECISIONS = {
    "promote": ("promoted", "good", "The gate promoted this version:"),
    "keep": ("kept as challenger", "warn", "The gate kept this version as challenger:"),
    "reject": ("rejected", "bad", "The gate rejected this run's winner:"),
}
_STATEMENTS = {
    "intended_use": "Intended use",
    "out_of_scope": "Out of scope",
    "limitations": "Limitations",
    "ethical_considerations": "Ethical considerations",
    "owner": "Owner",
    "contact": "Contact",
}
_SCALINGS = {"temperature": "temperature scaling", "platt": "Platt scaling", "beta": "beta calibration"}
_HEAT_STEPS = 9
#: Classes whose matrix is drawn; for more of them the commonest confusions are listed.
_DRAWN_CLASSES = 15
_SHOWN_CLASSES = 40
_SHOWN_TRIAL_METRICS = 4
_BINARY = 2

#: Title, chart, and a sentence below.
Panel = tuple[str, Chart, str]
_UNIT = (0.0, 1.0)


def build_card(
    run: Run,
    schema: TableSchema,
    spec: ModelSpec,
    evaluation: Evaluation,
    *,
    version: ModelVersion | None = None,
    trial: Mapping[str, Any] | None = None,
    prepared: Mapping[str, Any] | None = None,
    artifacts: Mapping[str, Artifact] | None = None,
) -> ModelCard:
    """Return the card of a version, from its run's documents and its artifacts' SHA-256 and sizes.

    ``trial`` is the winner's ``trial.json``, ``prepared`` the ``manifest.json`` of the prepared data.
    """
    return ModelCard(
        code_version=millrace.__version__,
        model=run.model,
        version=from_plain(CardVersion, to_plain(version)) if version else None,
        run=from_plain(CardRun, to_plain(run)),
        stated={name: text.strip() for name, text in spec.card.model_dump().items() if text.strip()},
        schema=schema.without_sensitive_values().to_dict(),
        evaluation=evaluation,
        trial=dict(trial or ()),
        data=_training_data(run.model, run.dataset_ids, prepared or {}),
        artifacts=dict(artifacts or ()),
        example=example_row(schema),
    )


def card_of_run(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> ModelCard:
    """Return the card of a run that registered nothing, from its record and ``evaluation.json`` alone."""
    measured, described = Evaluation.read(evaluation), from_plain(CardRun, run)
    split = measured.split or {}
    return ModelCard(
        code_version=millrace.__version__,
        model=measured.model,
        version=None,
        run=described,
        evaluation=measured,
        data=_training_data(measured.model, described.dataset_ids, {"split": split, "rows": split.get("rows", {})}),
    )


def _training_data(model: str, dataset_ids: Sequence[str], prepared: Mapping[str, Any]) -> TrainingData:
    """Return the training set, each dataset with the key of its report in the data bucket."""
    known = {dataset["dataset_id"]: dataset for dataset in prepared.get("datasets", ())}
    datasets = [
        {"dataset_id": name, **known.get(name, {}), "report": dataset_key(model, name, "report.html")}
        for name in dataset_ids
    ]
    return from_plain(TrainingData, {**prepared, "datasets": datasets})


def render_card(card: ModelCard, service: Mapping[str, Any] | None = None, write: Render = render) -> str:
    """Return the card of a version, or of a run that registered nothing, as a self-contained HTML page.

    ``service`` is how the version came into service until now, as the API describes it; the stored card, which is
    written at the registration, has none.
    """
    return write("model_card.html", **_variables(card, service))


def render_markdown(card: ModelCard, service: Mapping[str, Any] | None = None) -> str:
    """Return a model card as Markdown, for pull requests, wikis and terminals; see :func:`render_card`."""
    return render("model_card.md", **_variables(card, service)).rstrip("\n") + "\n"


def card_files(card: ModelCard) -> dict[str, bytes]:
    """Return a card's document, page and Markdown, by file name."""
    return {CARD: card.write(), CARD_PAGE: render_card(card).encode(), CARD_MARKDOWN: render_markdown(card).encode()}


def is_greater_better(name: str) -> bool | None:
    """Return the direction of a metric; None for one that the catalogue does not know."""
    return METRICS_BY_NAME[name].greater_is_better if name in METRICS_BY_NAME else None


def _variables(card: ModelCard, service: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the variables of both templates."""
    evaluation, schema = card.evaluation, card.table
    confusion, importance = evaluation.confusion, evaluation.importance
    return {
        "card": card,
        "service": service,
        "evidence_of": _strongest_evidence,
        "steps_of": lambda release: ", ".join(map(format_share, release["steps"])),
        "evaluation": evaluation,
        "version": card.version,
        "decision": _DECISIONS[evaluation.decision],
        "titles": _STATEMENTS,
        "target": evaluation.target,
        "features": schema.features if schema else (),
        "unused": [column for column in schema.columns if column.role in ("identifier", "ignored")] if schema else [],
        "primary": evaluation.primary_metric,
        "metrics": evaluation.holdout.metrics if evaluation.holdout else {},
        "holdout_rows": evaluation.holdout.rows if evaluation.holdout else 0,
        "baseline": evaluation.baseline.metrics if evaluation.baseline else {},
        "without_interval": _without_interval(evaluation),
        "confidence": _confidence(evaluation),
        "calibration": _calibration(evaluation.probability_calibration),
        "panels": _curve_panels(evaluation) + _residual_panels(evaluation),
        "matrix": _confusion_matrix(confusion) if confusion else [],
        "classes": _worst_classes(confusion) if confusion else [],
        "importance_bars": _importance_bars(importance.columns) if importance else [],
        "learning_curve": _learning_curve(evaluation.learning_curve),
        "trial_metrics": _trial_metrics(evaluation),
        "samples": _samples(card),
        "usage": usage(card) if card.version else [],
        "warnings": _stated_warnings(card),
        "loss": _loss_label(evaluation.primary_metric),
        "trial_name": _trial_name,
        "parameters_of": _searched_parameters,
        "is_greater_better": is_greater_better,
        "spans": charts.spans,
    }


def _strongest_evidence(release: Mapping[str, Any]) -> str:
    """Return the guard of a release with the most evidence against the candidate, and how much rolls back."""
    most = max(release["guards"], key=lambda guard: guard["log_e"], default=None)
    return (
        "no request evaluated"
        if most is None
        else f"{most['guard']}: {most['log_e']:.2f} of {release['log_e_limit']:.2f}"
    )


def _stated_warnings(card: ModelCard) -> list[str]:
    """Return the warnings of the prepared data and of the gate, each once."""
    found = [finding.message for finding in card.data.findings if finding.severity == "warning"]
    of_gate = [check.explanation for check in card.evaluation.gate if check.warning]
    return [*found, *(text for text in of_gate if not any(message in text for message in found))]


def _expected_error(calibration: CalibrationCurve) -> str:
    low, high = calibration.expected_error_low, calibration.expected_error_high
    value = number(calibration.expected_error)
    if calibration.expected_error_reason:
        return f"{value} (no interval: {calibration.expected_error_reason})"
    return f"{value} ({interval(low, high)})" if isinstance(low, float) and isinstance(high, float) else value


def _without_interval(evaluation: Evaluation) -> str:
    """Return the metrics whose rows do not support an interval, with the reason for each."""
    metrics = evaluation.holdout.metrics if evaluation.holdout else {}
    return "; ".join(f"{metric_label(name)} ({one.reason})" for name, one in metrics.items() if one.reason)


def _loss_label(metric: str) -> str:
    return METRICS_BY_NAME[metric].loss_label if metric in METRICS_BY_NAME else "loss"


def _trial_name(entry: LeaderboardEntry) -> str:
    """Return a trial's id, whose number tells trials of one candidate apart; else the candidate."""
    return entry.trial_id if entry.candidate in entry.trial_id else entry.candidate


def _searched_parameters(entry: LeaderboardEntry) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.parameters.items())


def _confidence(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.confidence:g} %"


def _calibration(calibration: ProbabilityCalibration | None) -> str:
    """Describe the calibration of the probabilities, and what it brought on the holdout."""
    if calibration is None:
        return ""
    outside = count(calibration.rows, "row")
    if calibration.scaled_log_loss is None:
        reason = f"on {outside} outside the fit none gained more than a standard error of the log loss"
        return f"The probabilities are the estimator's own: of the calibrations tried, {reason}."
    method = _SCALINGS.get(calibration.method, calibration.method)
    before, after = number(calibration.log_loss), number(calibration.scaled_log_loss)
    text = (
        f"The probabilities are calibrated ({method}) on {outside} outside the fit: the cross-validated log loss fell "
        f"from {before} to {after}."
    )
    effect = calibration.holdout
    if effect is None:
        return text
    return (
        f"{text} On the holdout the log loss is {number(effect.log_loss)} instead of {number(effect.raw_log_loss)}, "
        f"and the expected calibration error {number(effect.expected_error)} instead of "
        f"{number(effect.raw_expected_error)}."
    )


def _curve_panels(evaluation: Evaluation) -> list[Panel]:
    """Draw the curves of a classifier."""
    curves = evaluation.curves
    if curves is None:
        return []
    panels = []
    if curves.roc:
        lines = [Line("chance", [(0.0, 0.0), (1.0, 1.0)], "reference"), Line("model", curves.roc)]
        description = "ROC curve: true positive rate against false positive rate"
        chart = _unit_chart(lines, description, "false positive rate", "true positive rate")
        panels.append(("ROC curve", chart, ""))
    if curves.precision_recall and curves.positive_share is not UNSET:
        chance = curves.positive_share
        reference = Line(f"chance, {share(chance)}", [(0.0, chance), (1.0, chance)], "reference")
        lines = [reference, Line("model", curves.precision_recall)]
        chart = _unit_chart(lines, "Precision against recall", "recall", "precision")
        panels.append(("Precision and recall", chart, ""))
    bins = curves.calibration.bins
    tips = [
        f"predicted {share(one.predicted)}, observed {share(one.observed)}, {count(one.rows, 'row')}" for one in bins
    ]
    lines = [
        Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "reference"),
        Line(f"{_confidence(evaluation)} interval", [(one.predicted, one.low) for one in bins], "bound"),
        Line("", [(one.predicted, one.high) for one in bins], "bound"),
        Line("model", [(one.predicted, one.observed) for one in bins], dots=True, tips=tips),
    ]
    x_title = f"probability of {evaluation.classes[1] if evaluation.task == 'binary' else 'the predicted class'}"
    chart = _unit_chart(
        lines, "Calibration: observed frequency against predicted probability", x_title, "observed frequency"
    )
    note = f"Expected calibration error {_expected_error(curves.calibration)}."
    return [*panels, ("Calibration", chart, note)]


def _unit_chart(lines: Sequence[Line], description: str, x_title: str, y_title: str) -> Chart:
    return charts.line_chart(
        lines, description=description, x_range=_UNIT, y_range=_UNIT, x_title=x_title, y_title=y_title
    )


def _residual_panels(evaluation: Evaluation) -> list[Panel]:
    """Draw the errors of a regression model."""
    residuals, target = evaluation.residuals, evaluation.target
    if residuals is None:
        return []
    shape, levels = residuals.histogram, residuals.quantiles
    errors = charts.histogram(shape.edges, [Series("", shape.counts)], description="Histogram of the errors")
    middle = f"90 % of the errors lie between {number(levels['0.05'])} and {number(levels['0.95'])}"
    panel = ("Errors", errors, f"Mean {number(residuals.mean)}; {middle}.")
    points = residuals.points
    if not points:  # values of a sensitive target
        return [panel]
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    scatter = charts.line_chart(
        [Line("perfect", [(low, low), (high, high)], "reference"), Line("", points, stroke=False, dots=True)],
        description=f"True {target} against predicted {target}",
        x_range=(low, high),
        y_range=(low, high),
        x_title=f"predicted {target}",
        y_title=f"true {target}",
    )
    bins = residuals.by_prediction
    reach = max(abs(value) for one in bins for value in (one.mean_error, one.absolute_error)) or 1.0
    first, last = bins[0].predicted, bins[-1].predicted
    by_prediction = charts.line_chart(
        [
            Line("zero", [(first, 0.0), (last, 0.0)], "reference"),
            Line("mean size", [(one.predicted, one.absolute_error) for one in bins], "other", dots=True),
            Line("mean error", [(one.predicted, one.mean_error) for one in bins], dots=True),
        ],
        description="Errors by prediction",
        x_range=(first, last if last > first else first + 1.0),
        y_range=(-reach, reach),
        x_title=f"predicted {target}",
        y_title="predicted minus true",
    )
    return [
        ("Predicted and true", scatter, f"{len(points):,} rows of the holdout."),
        panel,
        ("Errors by prediction", by_prediction, "In tenths of the holdout, by prediction."),
    ]


def _confusion_matrix(confusion: ConfusionMatrix) -> list[tuple[str, list[tuple[int, float, int]]]]:
    """Return rows of the actual class, then count, share and shade of each predicted one; nothing for many classes."""
    if not confusion.classes or not confusion.matrix or len(confusion.classes) > _DRAWN_CLASSES:
        return []
    rows = []
    for name, counts in zip(confusion.classes, confusion.matrix, strict=True):
        shares = [amount / max(1, sum(counts)) for amount in counts]
        shades = [(amount, part, round(_HEAT_STEPS * part)) for amount, part in zip(counts, shares, strict=True)]
        rows.append((name, shades))
    return rows


def _worst_classes(confusion: ConfusionMatrix) -> list[ClassResult]:
    """Return the classes with the lowest recall; nothing for two classes, whose matrix says the same."""
    if len(confusion.per_class) <= _BINARY:
        return []
    return sorted(confusion.per_class, key=lambda part: (part.recall is None, part.recall or 0.0))[:_SHOWN_CLASSES]


def _importance_bars(columns: Sequence[FeatureImportance]) -> list[Bar]:
    largest = max((column.value for column in columns), default=0.0)
    return [
        Bar(
            column.name,
            column.value / largest if largest > 0 else 0.0,
            number(column.value),
            interval(column.low, column.high, 3) if column.low is not None else "",
        )
        for column in columns
    ]


def _learning_curve(curve: LearningCurve | None) -> Panel | None:
    """Draw the metric of both splits against the number of training rows; None where it was not measured."""
    if curve is None or not curve.points:
        return None
    points, label = curve.points, metric_label(curve.metric)
    values = [value for point in points for value in (point.train, point.validation)]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05
    chart = charts.line_chart(
        [
            Line("training", [(point.rows, point.train) for point in points], "other", dots=True),
            Line("validation", [(point.rows, point.validation) for point in points], dots=True),
        ],
        description=f"Learning curve: {label} against training rows",
        x_range=(0.0, float(points[-1].rows)),
        y_range=(low - margin, high + margin),
        x_title="training rows",
        y_title=label,
    )
    note = "The same recipe, fitted on shares of the rows. "
    if len(points) > 1:
        change = points[-1].validation - points[-2].validation
        verb = "gained" if (change > 0 if is_greater_better(curve.metric) else change < 0) else "lost"
        grown = points[-1].rows / points[-2].rows
        note += f"The last {grown:.3g}-fold growth {verb} {number(abs(change))} on validation. "
    return "Learning curve", chart, note + curve.note


def _trial_metrics(evaluation: Evaluation) -> list[str]:
    """Return the metrics of the leaderboard, the primary one first."""
    entries = [entry.metrics for entry in evaluation.leaderboard]
    names = dict.fromkeys([evaluation.primary_metric, *(name for metrics in entries for name in metrics)])
    return [name for name in names if any(name in metrics for metrics in entries)][:_SHOWN_TRIAL_METRICS]


def _samples(card: ModelCard) -> list[str]:
    """Return statements about the rows that were left out because there were too many."""
    stated, taken, search = [], card.data.sample, card.evaluation.search or {}
    if taken:
        stated.append(f"{taken.rows:,} of {taken.of_rows:,} rows were taken into the three splits")
    if search.get("rows", 0) < search.get("of_rows", 0):
        reason = search.get("why_sampled", "")
        stated.append(f"trained on {search['rows']:,} of {search['of_rows']:,} training rows: {reason}")
    return stated


_EXAMPLE_LEVEL = 0.9
_CURL = """\
curl --silent --aws-sigv4 "aws:amz:$AWS_REGION:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\
  --header "x-amz-security-token: $AWS_SESSION_TOKEN" --header "content-type: application/json" \\
  --data '{body}' "$API_URL/{path}\""""

_PYTHON = """\
import os

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

session = boto3.Session()
request = AWSRequest(
    "POST",
    os.environ["API_URL"] + "/{path}",
    data={body}.encode(),
    headers={{"content-type": "application/json"}},
)
SigV4Auth(session.get_credentials(), "execute-api", session.region_name).add_auth(request)
print(URLLib3Session().send(request.prepare()).text)"""


def usage(card: ModelCard) -> list[tuple[str, str]]:
    """Return titles and texts of requests for a version, and of the commands that change what the next run does."""
    model, version = card.model, card.version.version if card.version else CHAMPION
    path = f"models/{model}/versions/{version}/invocations"
    row = json.dumps(card.example, ensure_ascii=False)
    body = f'{{"dataframe_records": [{row}]}}'
    command = f"millrace predict {model} '{_quoted(row)}'"
    evaluation, table = card.evaluation, card.table
    other = next(metric.name for metric in METRICS[evaluation.task] if metric.name != evaluation.primary_metric)
    least = evaluation.importance.columns[-1].name if evaluation.importance and evaluation.importance.columns else None
    changes = [("Another primary metric, from the next run on", f"millrace spec set {model} primary_metric={other}")]
    if least and table:
        upload = f"millrace train {model} FILE --target {shlex.quote(evaluation.target)}"
        changes.append(("Without a column", f"{upload} --ignore {shlex.quote(least)} --schema replace"))
    intervals = evaluation.prediction_intervals
    with_interval = []
    if intervals and intervals.greatest_level >= _EXAMPLE_LEVEL:
        thing = "intervals" if evaluation.task == "regression" else "sets of likely classes"
        with_interval.append((f"With {thing}", f"{command} --interval {_EXAMPLE_LEVEL}"))
    return [
        ("The champion, from the command line", command),
        *with_interval,
        ("This version, with curl", _CURL.format(body=_quoted(body), path=path)),
        ("This version, in Python", _PYTHON.format(body=repr(body), path=path)),
        *changes,
    ]


def _quoted(text: str) -> str:
    """Return text for between a shell's single quotes."""
    return text.replace("'", "'\\''")
