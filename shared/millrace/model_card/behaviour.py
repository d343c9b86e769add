"""How a model behaves: what it decides, where it fails, whom it treats how, what it relies on, whether it overfits."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.model_card.performance import panel
from millrace.model_card.subject import CardSubject, interval, is_greater_better, metric_name
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, badge, callout, folded, table
from millrace.reporting.figures import bar_list
from millrace.reporting.html import Content, Html, element, join
from millrace.reporting.lines import Line, line_chart
from millrace.reporting.spans import Scale, span

_SHOWN_FEATURES = 15
_SHOWN_MISSING = 20
_VERDICT_TONES: Mapping[str, Any] = {"sound": "good", "overfit": "warn", "underfit": "warn"}

MEASURES: Mapping[str, str] = {
    "selection_rate": "called positive",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "calibration": "calibration (predicted minus observed)",
    "accuracy": "accuracy",
    "mean_error": "mean error",
    "absolute_error": "mean absolute error",
}

_ALTERNATIVES: Mapping[str, str] = {
    "threshold": "with the threshold",
    "one_half": "with one half",
    "always_positive": "always positive",
    "never_positive": "never positive",
}


def threshold_section(subject: CardSubject) -> Html:
    """Return the threshold, why it is what it is, and what it costs."""
    threshold = subject.evaluation["threshold"]
    costs = threshold["costs"]
    rule = (
        "the threshold at which the expected cost is least, which the validation rows do not contradict"
        if threshold["rule"] == "expected_cost"
        else "the cheapest on the validation rows, which speak against the theoretical one"
    )
    told = join(
        "A row is called ",
        element("strong", str(threshold["positive_class"])),
        " from a probability of ",
        element("strong", wording.number(threshold["value"])),
        f" on: {rule}. A false positive costs {wording.number(costs['false_positive'])}, a false negative "
        f"{wording.number(costs['false_negative'])}. Answers carry the decision beside the probabilities.",
    )
    by_name = threshold["cost_per_row"]["holdout"]
    scale = Scale.of([0.0, *(bound for cost in by_name.values() for bound in (cost["low"], cost["high"]))])
    rows = [
        (
            _ALTERNATIVES.get(name, name),
            wording.number(cost["value"]),
            interval(cost),
            span(cost["value"], cost["low"], cost["high"], scale),
        )
        for name, cost in by_name.items()
    ]
    heads = (
        TableColumn("Decision"),
        TableColumn("Cost of a row", "number"),
        TableColumn(f"{subject.confidence} interval", "number"),
        TableColumn(""),
    )
    return join(element("p", told, class_="panel"), table(heads, rows, caption="What decisions cost on the holdout"))


def fit_section(subject: CardSubject) -> Html:
    """Return the metrics of each split, the diagnosis, and the learning curve."""
    fit = subject.evaluation["fit"]
    splits: Mapping[str, Mapping[str, Any]] = fit["splits"]
    names = list(subject.metrics)
    heads = [
        TableColumn("Metric"),
        *(
            TableColumn(f"{name} ({wording.count(part['rows'], 'row')})".capitalize(), "number")
            for name, part in splits.items()
        ),
    ]
    rows = [
        [metric_name(name), *(wording.number(part["metrics"].get(name)) for part in splits.values())] for name in names
    ]
    return join(
        callout(f"Diagnosis: {fit['verdict']}", [fit["explanation"]], _VERDICT_TONES.get(fit["verdict"], "accent")),
        element("div", table(heads, rows, caption="Metrics of each split"), class_="after"),
        _learning_curve(subject),
    )


def _learning_curve(subject: CardSubject) -> Html | None:
    curve = subject.evaluation.get("learning_curve")
    if not curve or not curve["points"]:
        return None
    points = curve["points"]
    values = [point[split] for point in points for split in ("train", "validation")]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05
    chart = line_chart(
        [
            Line("training", [(point["rows"], point["train"]) for point in points], kind="other", dots=True),
            Line("validation", [(point["rows"], point["validation"]) for point in points], dots=True),
        ],
        description=f"Learning curve: {metric_name(curve['metric'])} against training rows",
        x_range=(0.0, float(points[-1]["rows"])),
        y_range=(low - margin, high + margin),
        x_title="training rows",
        y_title=metric_name(curve["metric"]),
    )
    note = "The same recipe, fitted on shares of the rows. "
    last, before = points[-1]["validation"], points[-2]["validation"] if len(points) > 1 else None
    if before is not None:
        better = last - before if is_greater_better(curve["metric"]) else before - last
        grown = points[-1]["rows"] / points[-2]["rows"]
        change = "gained" if better > 0 else "lost"
        note += f"The last {grown:.3g}-fold growth {change} {wording.number(abs(better))} on validation. "
    figure = panel("Learning curve", chart, note + str(curve.get("note") or ""))
    return element("div", figure, class_="figures")


def slices_section(subject: CardSubject) -> Html:
    """Return the declared slices and the worst found, each with the primary metric and its excess loss."""
    slices: Sequence[Mapping[str, Any]] = subject.evaluation.get("slices") or ()
    declared = [part for part in slices if part["declared"]]
    found = [part for part in slices if not part["declared"]]
    return join(
        element("h3", "Declared in the spec", class_="more") if declared else None,
        _slices_table(subject, declared, "Declared slices") if declared else None,
        element("h3", "The worst found", class_="more"),
        _slices_table(subject, found, "The worst slices found")
        if found
        else element("p", "No slice of one or two features stood out on the validation split.", class_="panel"),
        element(
            "p",
            "Searched on the validation split, over every value of every feature and every pair of values; measured on "
            "the holdout, which had no say in the search. Excess is the mean loss beyond that of the other rows; its "
            "intervals hold for all slices of a table together.",
            class_="quiet after",
        ),
    )


def _slices_table(subject: CardSubject, slices: Sequence[Mapping[str, Any]], caption: str) -> Html:
    name = subject.primary_metric
    whole = subject.metrics.get(name, {}).get("value")
    measured = [(part.get("metrics") or {}).get(name) or {} for part in slices]
    ends = [value for one in measured for value in (one.get("low"), one.get("high"), one.get("value"))]
    scale = Scale.of([*ends, whole])
    rows: list[Sequence[Content]] = [
        (
            str(part["name"]),
            wording.count(part["rows"]),
            wording.number(one.get("value")),
            span(one.get("value"), one.get("low"), one.get("high"), scale, whole) if one else "too few rows",
            _excess(part),
            badge("clearly worse", "warn") if part["clearly_worse"] else None,
        )
        for part, one in zip(slices, measured, strict=True)
    ]
    heads = (
        TableColumn("Slice"),
        TableColumn("Rows", "number"),
        TableColumn(metric_name(name), "number"),
        TableColumn("beside the whole"),
        TableColumn("Excess loss", "number"),
        TableColumn(""),
    )
    return table(heads, rows, caption=caption)


def _excess(part: Mapping[str, Any]) -> str:
    if part.get("excess_low") is None:
        return wording.NOT_KNOWN
    return f"{part['excess_low']:.3g} to {part['excess_high']:.3g}"


def fairness_section(subject: CardSubject) -> Html:
    """Return each sensitive column's groups and gaps."""
    return join(*(_groups(column) for column in subject.evaluation["fairness"]))


def _groups(column: Mapping[str, Any]) -> Html:
    groups, gaps = column["groups"], column["gaps"]
    names = [name for name in gaps if any(name in group["measures"] for group in groups)]
    heads = [TableColumn(str(column["column"])), TableColumn("Rows", "number")]
    heads += [TableColumn(MEASURES.get(name, name), "number") for name in names]
    rows: list[Sequence[Content]] = []
    for group in groups:
        measured = [group["measures"].get(name) or {} for name in names]
        cells = [join(wording.number(one.get("value")), _small_interval(one)) for one in measured]
        rows.append([str(group["name"]), wording.count(group["rows"]), *cells])
    found = [_gap(name, gaps[name]) for name in names if gaps[name]]
    more = f" {column['left_out_groups']:,} smaller groups are left out." if column.get("left_out_groups") else ""
    return join(
        element("h3", str(column["column"]), class_="more"),
        table(heads, rows, caption=f"Groups by {column['column']}"),
        callout("Gaps between the groups that are farthest apart", found, "accent")
        if found
        else element("p", "There are too few rows in too few groups to compare.", class_="quiet after"),
        element("p", f"Intervals of gaps are widened for the number of pairs.{more}", class_="quiet after"),
    )


def _small_interval(measured: Mapping[str, Any]) -> Html | None:
    if measured.get("low") is None:
        return None
    return element("span", f" {measured['low']:.2g} to {measured['high']:.2g}", class_="quiet")


def _gap(name: str, gap: Mapping[str, Any]) -> Html:
    told = f"{MEASURES.get(name, name)}: {wording.number(gap['value'])} between {gap['highest']} and {gap['lowest']}"
    if gap["low"] is not None:
        told += f" ({gap['low']:.3g} to {gap['high']:.3g})"
    return join(told, " ", badge("clear", "warn") if gap["clear"] else badge("within chance"))


def importance_section(subject: CardSubject) -> Html:
    """Return what each feature is worth."""
    importance = subject.evaluation["importance"]
    columns: Sequence[Mapping[str, Any]] = importance["columns"]
    largest = max((column["value"] for column in columns), default=0.0)
    rows = [
        (
            str(column["name"]),
            column["value"] / largest if largest > 0 else 0.0,
            wording.number(column["value"]),
            f"{column['low']:.3g} to {column['high']:.3g}" if column["low"] is not None else "",
        )
        for column in columns
    ]
    heads = ("Feature", f"Loss of {metric_name(importance['metric'])}", f"{subject.confidence} interval")
    rest = rows[_SHOWN_FEATURES:]
    missing = importance.get("not_measured") or ()
    told = (
        f"What {metric_name(importance['metric'])} loses when the column is shuffled, on "
        f"{wording.count(importance['rows'], 'row')} of the holdout. Columns that say the same share their importance."
    )
    notes = [told]
    if missing:
        more = len(missing) - _SHOWN_MISSING
        names = ", ".join(missing[:_SHOWN_MISSING]) + (f" and {more:,} more" if more > 0 else "")
        notes.append(f"Not measured in the time there was: {names}.")
    return element(
        "div",
        bar_list(rows[:_SHOWN_FEATURES], caption="Permutation importance", heads=heads, wide=True),
        folded(f"The other {len(rest):,} features", bar_list(rest, caption="Further features", heads=heads, wide=True))
        if rest
        else None,
        [element("p", note, class_="quiet after") for note in notes],
        class_="panel",
    )
