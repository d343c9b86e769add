"""How good a model is: its metrics beside the baseline's and the champion's, and the figures behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.model_card.subject import CardSubject, interval, is_greater_better, metric_name
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, folded, table
from millrace.reporting.figures import Series, histogram
from millrace.reporting.html import Content, Html, element, join
from millrace.reporting.lines import Line, line_chart
from millrace.reporting.spans import Scale, span

_HEAT_STEPS = 9
#: Classes whose matrix is drawn; larger ones are told by their commonest confusions.
_DRAWN_CLASSES = 15
_SHOWN_CLASSES = 40


def metrics_table(subject: CardSubject) -> Html:
    """Return every metric with its interval, beside the trivial baseline and the champion."""
    baseline = (subject.evaluation.get("baseline") or {}).get("metrics") or {}
    champion = subject.evaluation.get("champion") or {}
    compared = champion.get("metrics") or {}
    heads = [
        TableColumn("Metric"),
        TableColumn("Holdout", "number"),
        TableColumn(f"{subject.confidence} interval", "number"),
        TableColumn(""),
        TableColumn("Baseline", "number"),
        *([TableColumn(f"Version {champion['version']}", "number")] if compared else []),
    ]
    rows: list[Sequence[Content]] = []
    for name, measured in subject.metrics.items():
        scale = Scale.of([measured.get("low"), measured.get("high"), measured["value"], baseline.get(name)])
        arrow = "\N{UPWARDS ARROW}" if is_greater_better(name) else "\N{DOWNWARDS ARROW}"
        better = "higher is better" if is_greater_better(name) else "lower is better"
        primary = " \N{BULLET} primary" if name == subject.primary_metric else ""
        label = join(metric_name(name), " ", element("span", arrow, title=better), primary)
        cells: list[Content] = [
            label,
            wording.number(measured["value"]),
            interval(measured),
            span(measured["value"], measured.get("low"), measured.get("high"), scale, baseline.get(name)),
            wording.number(baseline.get(name)),
        ]
        rows.append([*cells, wording.number(compared.get(name))] if compared else cells)
    told = (
        f"On {wording.count(subject.holdout_rows, 'row')} that neither fitting nor choosing has seen, by the ONNX "
        f"model that serves. Bars are {subject.confidence} bootstrap intervals; the line is the trivial baseline."
    )
    return join(
        table(heads, rows, caption="Metrics on the holdout"),
        element("p", told, class_="quiet after"),
    )


def figures(subject: CardSubject) -> Html | None:
    """Return the figures of the task."""
    evaluation = subject.evaluation
    curves = evaluation.get("curves") or {}
    drawn = [
        _roc(curves),
        _precision_recall(curves),
        _calibration(subject, curves.get("calibration")),
        _confusion(evaluation.get("confusion")),
        *_residuals(subject, evaluation.get("residuals")),
    ]
    panels = [panel for panel in drawn if panel is not None]
    if not panels:
        return None
    return join(element("div", panels, class_="figures"), _per_class(evaluation.get("confusion")))


def panel(title: str, figure: Content, note: str = "") -> Html:
    """Return a figure with its title and a sentence below."""
    return element(
        "div", element("h3", title), figure, element("p", note, class_="quiet") if note else None, class_="panel"
    )


def share_label(value: float) -> str:
    """Return a share for an axis."""
    return f"{value:g}"


def _roc(curves: Mapping[str, Any]) -> Html | None:
    if not curves.get("roc"):
        return None
    lines = [
        Line("chance", [(0.0, 0.0), (1.0, 1.0)], kind="reference"),
        Line("model", [(x, y) for x, y in curves["roc"]]),
    ]
    chart = line_chart(
        lines,
        description="ROC curve: true positive rate against false positive rate",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        x_title="false positive rate",
        y_title="true positive rate",
        x_wording=share_label,
        y_wording=share_label,
    )
    return panel("ROC curve", chart)


def _precision_recall(curves: Mapping[str, Any]) -> Html | None:
    if not curves.get("precision_recall"):
        return None
    positive = float(curves["positive_share"])
    lines = [
        Line(f"chance, {wording.share(positive)}", [(0.0, positive), (1.0, positive)], kind="reference"),
        Line("model", [(x, y) for x, y in curves["precision_recall"]]),
    ]
    chart = line_chart(
        lines,
        description="Precision against recall",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        x_title="recall",
        y_title="precision",
        x_wording=share_label,
        y_wording=share_label,
    )
    return panel("Precision and recall", chart)


def _calibration(subject: CardSubject, calibration: Mapping[str, Any] | None) -> Html | None:
    if not calibration:
        return None
    cells = calibration["cells"]
    tips = [
        f"predicted {wording.share(cell['predicted'])}, observed {wording.share(cell['observed'])}, "
        f"{wording.count(cell['rows'], 'row')}"
        for cell in cells
    ]
    lines = [
        Line("perfect", [(0.0, 0.0), (1.0, 1.0)], kind="reference"),
        *(
            Line(f"{subject.confidence} interval" if bound == "low" else "", _points(cells, bound), kind="bound")
            for bound in ("low", "high")
        ),
        Line("model", _points(cells, "observed"), dots=True, tips=tips),
    ]
    what = f"probability of {subject.positive_class}" if subject.positive_class else "probability of the called class"
    chart = line_chart(
        lines,
        description="Calibration: how often what was given a probability happened",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        x_title=what,
        y_title="how often it was so",
        x_wording=share_label,
        y_wording=share_label,
    )
    return panel("Calibration", chart, f"Expected calibration error {wording.number(calibration['expected_error'])}.")


def _points(cells: Sequence[Mapping[str, float]], y: str) -> list[tuple[float, float]]:
    return [(cell["predicted"], cell[y]) for cell in cells]


def _confusion(confusion: Mapping[str, Any] | None) -> Html | None:
    if not confusion:
        return None
    classes = confusion.get("classes")
    if not classes or len(classes) > _DRAWN_CLASSES:
        pairs = confusion.get("commonest") or ()
        rows = [(str(pair["actual"]), str(pair["called"]), wording.count(pair["rows"])) for pair in pairs[:12]]
        heads = (TableColumn("Actual"), TableColumn("Called"), TableColumn("Rows", "number"))
        return panel("Commonest confusions", table(heads, rows, caption="Commonest confusions"))
    body = []
    for name, counts in zip(classes, confusion["matrix"], strict=True):
        total = max(1, sum(counts))
        cells = [
            element(
                "td",
                f"{count:,}",
                element("span", wording.share(count / total), class_="share"),
                class_=f"heat-{round(_HEAT_STEPS * count / total)}",
            )
            for count in counts
        ]
        body.append(element("tr", element("th", str(name), scope="row"), cells))
    head = element(
        "tr",
        element("th", "actual \N{RIGHTWARDS ARROW} called"),
        [element("th", str(name), scope="col") for name in classes],
    )
    content = element(
        "table",
        element("caption", "Confusion matrix", class_="unseen"),
        element("thead", head),
        element("tbody", body),
        class_="matrix",
    )
    scrolled = element("div", content, class_="scroll", tabindex=0, role="region", aria_label="Confusion matrix")
    return panel("Confusion matrix", scrolled, "Rows of the holdout; shares are of each actual class.")


def _per_class(confusion: Mapping[str, Any] | None) -> Html | None:
    if not confusion or len(confusion.get("per_class") or ()) <= 2:  # noqa: PLR2004  # the matrix says it all
        return None
    parts = sorted(confusion["per_class"], key=lambda part: (part["recall"] is None, part["recall"] or 0.0))
    shown = parts[:_SHOWN_CLASSES]
    heads = (
        TableColumn("Class"),
        TableColumn("Rows", "number"),
        TableColumn("Recall", "number"),
        TableColumn("Precision", "number"),
    )
    rows = [
        (
            str(part["name"]),
            wording.count(part["rows"]),
            wording.share(part["recall"]),
            wording.share(part["precision"]),
        )
        for part in shown
    ]
    more = len(parts) - len(shown) + int(confusion.get("left_out_classes") or 0)
    told = f"The classes with the lowest recall; {more:,} more are left out." if more else ""
    return folded(
        "Every class",
        table(heads, rows, caption="Recall and precision by class"),
        element("p", told, class_="quiet after") if told else None,
    )


def _residuals(subject: CardSubject, residuals: Mapping[str, Any] | None) -> list[Html]:
    if not residuals:
        return []
    points = [(float(x), float(y)) for x, y in residuals["points"]]
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    scatter = line_chart(
        [
            Line("perfect", [(low, low), (high, high)], kind="reference"),
            Line("", points, stroke=False, dots=True),
        ],
        description=f"True {subject.target} beside predicted",
        x_range=(low, high),
        y_range=(low, high),
        x_title=f"predicted {subject.target}",
        y_title=f"true {subject.target}",
    )
    shape = residuals["histogram"]
    bars = histogram(shape["edges"], [Series("", shape["counts"])], description="Histogram of the errors")
    levels = residuals["quantiles"]
    told = (
        f"Mean {wording.number(residuals['mean'])}; nine in ten errors lie between "
        f"{wording.number(levels['0.05'])} and {wording.number(levels['0.95'])}."
    )
    cells = residuals["by_prediction"]
    reach = max(abs(value) for cell in cells for value in (cell["mean_error"], cell["absolute_error"])) or 1.0
    first, last = cells[0]["predicted"], cells[-1]["predicted"]
    by_prediction = line_chart(
        [
            Line("zero", [(first, 0.0), (last, 0.0)], kind="reference"),
            Line("mean size", [(cell["predicted"], cell["absolute_error"]) for cell in cells], kind="other", dots=True),
            Line("mean error", [(cell["predicted"], cell["mean_error"]) for cell in cells], dots=True),
        ],
        description="Errors along the prediction",
        x_range=(first, last if last > first else first + 1.0),
        y_range=(-reach, reach),
        x_title=f"predicted {subject.target}",
        y_title="predicted minus true",
    )
    return [
        panel("Predicted and true", scatter, f"{len(points):,} rows of the holdout."),
        panel("Errors", bars, told),
        panel("Errors along the prediction", by_prediction, "In tenths of the holdout, by prediction."),
    ]
