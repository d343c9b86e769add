"""The model card: a JSON document gathered from stored ones, rendered as an HTML page and as Markdown."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import millrace
from millrace.documents import to_plain
from millrace.entities import ModelVersion, Run
from millrace.layout import dataset_key
from millrace.metrics.catalogue import METRICS_BY_NAME
from millrace.reports import charts
from millrace.reports.charts import Bar, Chart, Line, Series
from millrace.reports.formatting import NOT_KNOWN, count, number, share, three_digits
from millrace.reports.render import render
from millrace.schema import TableSchema
from millrace.serving.openapi import example_row
from millrace.spec import ModelSpec

CARD_PAGE = "card.html"
CARD_MARKDOWN = "card.md"
CARD_DOCUMENT = "card.json"

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
_PARTS = ("version", "evaluation", "schema", "run", "trial", "data", "stated", "artifacts")
_HEAT_STEPS = 9
#: Classes whose matrix is drawn; for more of them the commonest confusions are listed.
_DRAWN_CLASSES = 15
_SHOWN_CLASSES = 40
_SHOWN_TRIAL_METRICS = 4
_BINARY = 2

Document = Mapping[str, Any]
#: Title, chart, and a sentence below.
Panel = tuple[str, Chart, str]
_UNIT = (0.0, 1.0)
#: Raised when a field of the document changes its meaning.
CARD_VERSION = 1
_VERSION_FIELDS = ("version", "semantic_version", "created_at", "schema_version")


def build_card(
    run: Run,
    schema: TableSchema,
    spec: ModelSpec,
    evaluation: Mapping[str, Any],
    *,
    version: ModelVersion | None = None,
    trial: Mapping[str, Any] | None = None,
    prepared: Mapping[str, Any] | None = None,
    artifacts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return ``card.json`` of a version, from its run's documents and its artifacts' SHA-256 and sizes."""
    stated = {name: text.strip() for name, text in spec.card.model_dump().items() if text.strip()}
    document: dict[str, Any] = to_plain(
        {
            "card_version": CARD_VERSION,
            "code_version": millrace.__version__,
            "model": run.model,
            "version": {name: getattr(version, name) for name in _VERSION_FIELDS} if version else None,
            "run": {
                "run_id": run.run_id,
                "kind": run.kind,
                "requested_at": run.requested_at,
                "dataset_ids": list(run.dataset_ids),
            },
            "stated": stated,
            "schema": schema.without_sensitive_values().to_dict(),
            "evaluation": dict(evaluation),
            "trial": dict(trial or {}),
            "data": _data(run, prepared or {}),
            "artifacts": dict(artifacts or {}),
            "example": example_row(schema),
        }
    )
    return document


def card_of_run(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a run that registered nothing, from its record and ``evaluation.json`` alone."""
    return {
        "card_version": CARD_VERSION,
        "code_version": millrace.__version__,
        "model": run["model"],
        "version": None,
        "run": dict(run),
        "evaluation": dict(evaluation),
        "data": {
            "datasets": [
                {"dataset_id": dataset_id, "report": dataset_key(run["model"], dataset_id, "report.html")}
                for dataset_id in run.get("dataset_ids") or ()
            ],
            "split": evaluation.get("split") or {},
            "rows": (evaluation.get("split") or {}).get("rows") or {},
        },
    }


def _data(run: Run, prepared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training set, each dataset with the key of its report in the data bucket."""
    known = {dataset["dataset_id"]: dataset for dataset in prepared.get("datasets") or ()}
    return {
        "datasets": [
            {
                **known.get(dataset_id, {"dataset_id": dataset_id}),
                "report": dataset_key(run.model, dataset_id, "report.html"),
            }
            for dataset_id in run.dataset_ids
        ],
        "split": prepared.get("split") or {},
        "rows": prepared.get("rows") or {},
        "class_counts": prepared.get("class_counts") or {},
        "findings": prepared.get("findings") or (),
        "sample": prepared.get("sample"),
        "repeated_rows_left_out": prepared.get("repeated_rows_left_out"),
    }


def render_card(document: Document) -> str:
    """Return ``card.json``, of a version or of a run that registered nothing, as a self-contained HTML page."""
    return render("model_card.html", **_variables(document))


def render_markdown(document: Document) -> str:
    """Return a model card as Markdown, for pull requests, wikis and terminals; see :func:`render_card`."""
    return render("model_card.md", **_variables(document)).rstrip("\n") + "\n"


def card_files(document: Document) -> dict[str, bytes]:
    """Return a card's document, page and Markdown, by file name."""
    return {
        CARD_DOCUMENT: json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode(),
        CARD_PAGE: render_card(document).encode(),
        CARD_MARKDOWN: render_markdown(document).encode(),
    }


def metric_label(name: str) -> str:
    """Return a metric's name as people write it."""
    return METRICS_BY_NAME[name].label if name in METRICS_BY_NAME else name


def is_greater_better(name: str) -> bool | None:
    """Return the direction of a metric; None for one that the catalogue does not know."""
    return METRICS_BY_NAME[name].greater_is_better if name in METRICS_BY_NAME else None


def _variables(document: Document) -> dict[str, Any]:
    """Return the variables of both templates; any part of a document may be missing."""
    parts: dict[str, Any] = {name: document.get(name) or {} for name in _PARTS}
    evaluation, columns = parts["evaluation"], parts["schema"].get("columns") or ()
    holdout, importance = evaluation.get("holdout") or {}, evaluation.get("importance") or {}
    targets = [str(column["name"]) for column in columns if column.get("role") == "target"]
    return parts | {
        "document": document,
        "decision": _DECISIONS.get(evaluation.get("decision"), (NOT_KNOWN, "plain", "")),
        "titles": _STATEMENTS,
        "run_id": parts["run"].get("run_id") or evaluation.get("run_id"),
        "task": evaluation.get("task") or parts["schema"].get("task") or "",
        "target": (*targets, evaluation.get("target") or "the target")[0],
        "features": [column for column in columns if column.get("role") == "feature"],
        "primary": str(evaluation.get("primary_metric") or ""),
        "metrics": holdout.get("metrics") or {},
        "holdout_rows": holdout.get("rows") or 0,
        "baseline": (evaluation.get("baseline") or {}).get("metrics") or {},
        "champion": evaluation.get("champion") or {},
        "confidence": _confidence(evaluation),
        "panels": _curve_panels(evaluation) + _residual_panels(evaluation, (*targets, "the target")[0]),
        "confusion": evaluation.get("confusion") or {},
        "matrix": _confusion_matrix(evaluation.get("confusion") or {}),
        "classes": _worst_classes(evaluation.get("confusion") or {}),
        "importance": importance,
        "importance_bars": _importance_bars(importance.get("columns") or ()),
        "learning_curve": _learning_curve(evaluation.get("learning_curve") or {}),
        "trial_metrics": _trial_metrics(evaluation),
        "samples": _samples(parts["data"].get("sample") or {}, evaluation.get("search") or {}),
        "usage": usage(document),
        "warnings": _stated_warnings(parts["data"], evaluation),
        "loss": _loss_label(str(evaluation.get("primary_metric") or "")),
        "trial_name": _trial_name,
        "parameters_of": _searched_parameters,
        "metric_label": metric_label,
        "is_greater_better": is_greater_better,
        "spans": charts.spans,
    }


def _stated_warnings(data: Document, evaluation: Document) -> list[str]:
    """Return the warnings of the prepared data and of the gate, each once."""
    found = [str(one["message"]) for one in data.get("findings") or () if one["severity"] == "warning"]
    of_gate = [str(check["explanation"]) for check in evaluation.get("gate") or () if check.get("warning")]
    return [*found, *(text for text in of_gate if not any(message in text for message in found))]


def _loss_label(metric: str) -> str:
    return METRICS_BY_NAME[metric].loss_label if metric in METRICS_BY_NAME else "loss"


def _trial_name(entry: Document) -> str:
    """Return a trial's id, whose number tells trials of one candidate apart; else the candidate."""
    identifier = str(entry.get("trial_id") or "")
    return identifier if str(entry["candidate"]) in identifier else str(entry["candidate"])


def _searched_parameters(entry: Document) -> str:
    parameters: Document = entry.get("parameters") or {}
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _confidence(evaluation: Document) -> str:
    return f"{100 * float(evaluation.get('confidence') or 0.95):g} %"


def _curve_panels(evaluation: Document) -> list[Panel]:
    """Draw the curves of a classifier."""
    curves: Document = evaluation.get("curves") or {}
    panels = []
    if curves.get("roc"):
        lines = [Line("chance", [(0.0, 0.0), (1.0, 1.0)], "reference"), Line("model", _points(curves["roc"]))]
        chart = _unit_chart(
            lines,
            "ROC curve: true positive rate against false positive rate",
            "false positive rate",
            "true positive rate",
        )
        panels.append(("ROC curve", chart, ""))
    if curves.get("precision_recall"):
        chance = float(curves["positive_share"])
        reference = Line(f"chance, {share(chance)}", [(0.0, chance), (1.0, chance)], "reference")
        lines = [reference, Line("model", _points(curves["precision_recall"]))]
        chart = _unit_chart(lines, "Precision against recall", "recall", "precision")
        panels.append(("Precision and recall", chart, ""))
    if curves.get("calibration"):
        bins = curves["calibration"]["cells"]
        tips = [
            f"predicted {share(one['predicted'])}, observed {share(one['observed'])}, {count(one['rows'], 'row')}"
            for one in bins
        ]
        lines = [
            Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "reference"),
            Line(f"{_confidence(evaluation)} interval", [(one["predicted"], one["low"]) for one in bins], "bound"),
            Line("", [(one["predicted"], one["high"]) for one in bins], "bound"),
            Line("model", [(one["predicted"], one["observed"]) for one in bins], dots=True, tips=tips),
        ]
        classes: Sequence[str] = evaluation.get("classes") or ()
        x_title = f"probability of {classes[1] if len(classes) == _BINARY else 'the predicted class'}"
        description = "Calibration: observed frequency against predicted probability"
        note = f"Expected calibration error {number(curves['calibration']['expected_error'])}."
        panels.append(("Calibration", _unit_chart(lines, description, x_title, "observed frequency"), note))
    return panels


def _unit_chart(lines: Sequence[Line], description: str, x_title: str, y_title: str) -> Chart:
    return charts.line_chart(
        lines, description=description, x_range=_UNIT, y_range=_UNIT, x_title=x_title, y_title=y_title
    )


def _points(pairs: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in pairs]


def _residual_panels(evaluation: Document, target: str) -> list[Panel]:
    """Draw the errors of a regression model."""
    residuals = evaluation.get("residuals")
    if not residuals:
        return []
    points = _points(residuals["points"])
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
    shape, levels = residuals["histogram"], residuals["quantiles"]
    errors = charts.histogram(shape["edges"], [Series("", shape["counts"])], description="Histogram of the errors")
    middle = f"90 % of the errors lie between {number(levels['0.05'])} and {number(levels['0.95'])}"
    bins = residuals["by_prediction"]
    reach = max(abs(value) for one in bins for value in (one["mean_error"], one["absolute_error"])) or 1.0
    first, last = bins[0]["predicted"], bins[-1]["predicted"]
    by_prediction = charts.line_chart(
        [
            Line("zero", [(first, 0.0), (last, 0.0)], "reference"),
            Line("mean size", [(one["predicted"], one["absolute_error"]) for one in bins], "other", dots=True),
            Line("mean error", [(one["predicted"], one["mean_error"]) for one in bins], dots=True),
        ],
        description="Errors by prediction",
        x_range=(first, last if last > first else first + 1.0),
        y_range=(-reach, reach),
        x_title=f"predicted {target}",
        y_title="predicted minus true",
    )
    return [
        ("Predicted and true", scatter, f"{len(points):,} rows of the holdout."),
        ("Errors", errors, f"Mean {number(residuals['mean'])}; {middle}."),
        ("Errors by prediction", by_prediction, "In tenths of the holdout, by prediction."),
    ]


def _confusion_matrix(confusion: Document) -> list[tuple[str, list[tuple[int, float, int]]]]:
    """Return rows of the actual class, then count, share and shade of each predicted one; nothing for many classes."""
    classes: Sequence[Any] = confusion.get("classes") or ()
    if not 0 < len(classes) <= _DRAWN_CLASSES:
        return []
    rows = []
    for name, counts in zip(classes, confusion["matrix"], strict=True):
        shares = [amount / max(1, sum(counts)) for amount in counts]
        shades = [(amount, part, round(_HEAT_STEPS * part)) for amount, part in zip(counts, shares, strict=True)]
        rows.append((str(name), shades))
    return rows


def _worst_classes(confusion: Document) -> list[Document]:
    """Return the classes with the lowest recall; nothing for two classes, whose matrix says the same."""
    parts = confusion.get("per_class") or ()
    if len(parts) <= _BINARY:
        return []
    return sorted(parts, key=lambda part: (part["recall"] is None, part["recall"] or 0.0))[:_SHOWN_CLASSES]


def _importance_bars(columns: Sequence[Document]) -> list[Bar]:
    largest = max((column["value"] for column in columns), default=0.0)
    return [
        Bar(
            str(column["name"]),
            column["value"] / largest if largest > 0 else 0.0,
            number(column["value"]),
            f"{three_digits(column['low'])} to {three_digits(column['high'])}" if column["low"] is not None else "",
        )
        for column in columns
    ]


def _learning_curve(curve: Document) -> Panel | None:
    """Draw the metric of both splits against the number of training rows; None where it was not measured."""
    if not curve.get("points"):
        return None
    points, label = curve["points"], metric_label(curve["metric"])
    values = [point[split] for point in points for split in ("train", "validation")]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05
    chart = charts.line_chart(
        [
            Line("training", [(point["rows"], point["train"]) for point in points], "other", dots=True),
            Line("validation", [(point["rows"], point["validation"]) for point in points], dots=True),
        ],
        description=f"Learning curve: {label} against training rows",
        x_range=(0.0, float(points[-1]["rows"])),
        y_range=(low - margin, high + margin),
        x_title="training rows",
        y_title=label,
    )
    note = "The same recipe, fitted on shares of the rows. "
    if len(points) > 1:
        change = points[-1]["validation"] - points[-2]["validation"]
        verb = "gained" if (change > 0 if is_greater_better(curve["metric"]) else change < 0) else "lost"
        grown = points[-1]["rows"] / points[-2]["rows"]
        note += f"The last {grown:.3g}-fold growth {verb} {number(abs(change))} on validation. "
    return "Learning curve", chart, note + str(curve.get("note") or "")


def _trial_metrics(evaluation: Document) -> list[str]:
    """Return the metrics of the leaderboard, the primary one first."""
    entries = [entry.get("metrics") or {} for entry in evaluation.get("leaderboard") or ()]
    names = dict.fromkeys([evaluation.get("primary_metric"), *(name for metrics in entries for name in metrics)])
    return [str(name) for name in names if any(name in metrics for metrics in entries)][:_SHOWN_TRIAL_METRICS]


def _samples(taken: Document, search: Document) -> list[str]:
    """Return statements about the rows that were left out because there were too many."""
    stated = []
    if taken:
        stated.append(f"{taken['rows']:,} of {taken['of_rows']:,} rows were taken into the three splits")
    if search.get("rows", 0) < search.get("of_rows", 0):
        reason = search.get("why_sampled", "")
        stated.append(f"trained on {search['rows']:,} of {search['of_rows']:,} training rows: {reason}")
    return stated


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


def usage(document: Document) -> list[tuple[str, str]]:
    """Return titles and texts of requests for a version, from a shell and from Python; they work as they stand."""
    model, version = document["model"], (document.get("version") or {}).get("version")
    path = f"models/{model}/versions/{version}/invocations"
    row = json.dumps(document.get("example") or {}, ensure_ascii=False)
    body = f'{{"dataframe_records": [{row}]}}'
    command = f"millrace predict {model} '{_quoted(row)}'"
    return [
        ("The champion, from the command line", command),
        ("This version, with curl", _CURL.format(body=_quoted(body), path=path)),
        ("This version, in Python", _PYTHON.format(body=repr(body), path=path)),
    ]


def _quoted(text: str) -> str:
    """Return text for between a shell's single quotes."""
    return text.replace("'", "'\\''")
