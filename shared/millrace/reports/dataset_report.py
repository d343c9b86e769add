"""The dataset report: one HTML page about an upload, whether it became a dataset or was rejected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from millrace.reports import charts, formatting
from millrace.reports.charts import Bar, Chart, Series
from millrace.reports.formatting import MASK, NOT_KNOWN, epoch_day, epoch_seconds, join_names
from millrace.reports.render import Render, render

#: Cards of one page; further columns stand in a table.
MAX_CARDS = 48
#: Rows of the quarantine that a page shows.
SHOWN_QUARANTINED = 50
#: Thresholds of limitations that no check reports: gaps, rare classes, few rows, columns that give the target away.
MISSING_SHARE = 0.3
RARE_CLASS_SHARE = 0.1
FEW_ROWS = 1_000
STRONG = 0.95
#: Columns in the chart of associations.
SHOWN_ASSOCIATIONS = 25

_SHOWN_EXAMPLES = 5
#: Values of a column and classes of the target that a card draws, and categories that a table names.
_SHOWN_VALUES = 8
_SHOWN_CLASSES = 12
_SHOWN_CATEGORIES = 6
_SHOWN_NAMES = 8
_SHOWN_LIMITATIONS = 20
_MAX_TEXT = 200
_INTEGER_STEPS = 6
_ROUNDING = 1e-12

_MEASURES = {"auc": "AUC", "cramers_v": "V", "correlation_ratio": "η", "spearman": "\N{GREEK SMALL LETTER RHO}"}
_MEASURE_NAMES = {
    "auc": "AUC: area under the ROC curve of the column alone",
    "cramers_v": "V: Cramér's V, corrected for bias",
    "correlation_ratio": "η: correlation ratio",
    "spearman": "\N{GREEK SMALL LETTER RHO}: Spearman's rank correlation",
}

Document = Mapping[str, Any]
Column = Mapping[str, Any]
#: Label, value and a hint, which may be empty.
Fact = tuple[str, str, str]


def render_dataset_report(document: Document, write: Render = render) -> str:
    """Return a self-contained HTML page about an upload.

    Parameters
    ----------
    document : mapping
        ``model`` and ``validation`` (``validation.json``), and where they exist ``profile`` (``profile.json``),
        ``manifest`` (``manifest.json``), ``schema`` (the schema's JSON), ``quarantine`` (the first quarantined rows),
        ``split`` and ``datasheet`` (the spec's) and ``sensitive`` (names of columns to mask, beside those that the
        profile or the schema marks).

    Returns
    -------
    str
        The same document gives the same page.
    """
    report = _DatasetReport.read(document)
    limits = {"max_cards": MAX_CARDS, "drawn": SHOWN_ASSOCIATIONS}
    return write("dataset_report.html", report=report, association=association, **limits)


@dataclass(frozen=True, slots=True)
class _ColumnChart:
    """The chart of a column: a histogram, or bars with their headings; or a note instead."""

    histogram: Chart | None = None
    bars: Sequence[Bar] = ()
    heads: Sequence[str] = ()
    caption: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class _DatasetReport:
    """The documents of an upload, any of which a rejected upload may lack, with sensitive values masked."""

    model: str
    validation: Document
    profile: Document = field(default_factory=dict)
    manifest: Document = field(default_factory=dict)
    schema: Document = field(default_factory=dict)
    quarantine: Sequence[Document] = ()  # A sample of the quarantined rows
    datasheet: Mapping[str, str] = field(default_factory=dict)  # The owner's statements in the spec
    split: Document = field(default_factory=dict)  # The spec's split
    sensitive: frozenset[str] = frozenset()  # Columns whose values are masked

    @classmethod
    def read(cls, document: Document) -> "_DatasetReport":
        names = ("validation", "profile", "manifest", "schema", "datasheet", "split")
        parts = {name: document.get(name) or {} for name in names}
        parts["datasheet"] = {name: text.strip() for name, text in parts["datasheet"].items() if text and text.strip()}
        described = [*parts["profile"].get("columns", ()), *parts["schema"].get("columns", ())]
        sensitive = {column["name"] for column in described if column.get("sensitive")}
        return cls(
            model=document["model"],
            quarantine=document.get("quarantine") or (),
            sensitive=frozenset(sensitive | set(document.get("sensitive") or ())),
            **parts,
        )

    # -- the upload

    @property
    def accepted(self) -> bool:
        return bool(self.validation.get("outcome") == "accepted")

    @property
    def dataset_id(self) -> str | None:
        return self.manifest.get("dataset_id") or self.validation.get("dataset_id")

    @property
    def file_name(self) -> str:
        folder = self.validation.get("folder")
        if folder:
            return f"{str(folder).rstrip('/').rsplit('/', 1)[-1]}/"
        return str(self.validation.get("file") or "").rstrip("/").rsplit("/", 1)[-1] or "upload"

    @property
    def rows(self) -> int:
        return int(self.validation.get("rows") or 0)

    @property
    def usable_rows(self) -> int:
        return int(self.validation.get("usable_rows") or self.profile.get("rows") or 0)

    @property
    def quarantined_rows(self) -> int:
        return int(self.validation.get("quarantined_rows") or 0)

    @property
    def missing_share(self) -> float | None:
        values = self.usable_rows * len(self.profile.get("columns") or ())
        return self.profile["missing_cells"] / values if values else None

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Facts about each column in this dataset: the profile's above the schema's."""
        return _merged(self.validation, self.schema, self.profile)

    @property
    def schema_columns(self) -> list[dict[str, Any]]:
        """Facts about each column that hold for every dataset: the schema's above the profile's."""
        return _merged(self.validation, self.profile, self.schema)

    def having(self, fact: str, value: str) -> list[dict[str, Any]]:
        return [column for column in self.columns if column.get(fact) == value]

    @property
    def target(self) -> Document:
        stated = {"name": self.validation.get("target"), "task": self.validation.get("task")}
        return {**stated, **(self.profile.get("target") or {})}

    # -- masking

    def masked(self, column: str | None, value: Any) -> str:
        return MASK if column in self.sensitive else str(value)

    def masked_message(self, column: str | None, message: str, values: Sequence[Any]) -> str:
        """Return a message about a column without the values that it quotes, when the column is sensitive."""
        if column not in self.sensitive:
            return message
        for value in sorted({str(value) for value in values if value is not None}, key=len, reverse=True):
            for quoted in (repr(value), f'"{value}"'):
                message = message.replace(quoted, MASK)
        return message

    def message_of(self, finding: Document) -> str:
        message, examples = str(finding.get("message") or ""), finding.get("examples") or ()
        return self.masked_message(finding.get("column"), message, examples)

    # -- findings and quarantine

    @property
    def findings(self) -> list[Document]:
        found: Sequence[Document] = self.validation.get("findings") or ()
        return sorted(found, key=lambda finding: finding.get("severity") != "error")

    def findings_of(self, severity: str) -> list[Document]:
        return [finding for finding in self.findings if finding.get("severity") == severity]

    @property
    def reasons(self) -> list[str]:
        """The reasons of a rejection."""
        errors = [self.message_of(finding) for finding in self.findings_of("error")]
        return errors or [str(reason) for reason in self.validation.get("reasons") or ()]

    def examples_of(self, finding: Document) -> list[tuple[str, str]]:
        """Return place and value of a finding's examples; the place is empty where the finding knows none."""
        rows = [(_place(row), row.get("value")) for row in finding.get("rows") or ()]
        given = rows or [("", value) for value in finding.get("examples") or ()]
        return [(place, _cut(self.masked(finding.get("column"), value))) for place, value in given[:_SHOWN_EXAMPLES]]

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        return [self._quarantined(row) for row in self.quarantine[:SHOWN_QUARANTINED]]

    def _quarantined(self, row: Document) -> dict[str, Any]:
        # A row that does not fit the table cannot be masked by column: it is shown only where it was masked on reading.
        text = str(row.get("text") or "")
        return {
            "file": row.get("file"),
            "line": row.get("line"),
            "reason": self.masked_message(row.get("column"), str(row.get("reason") or ""), [row.get("value")]),
            "text": MASK if self.sensitive and MASK not in text else _cut(text),
        }

    # -- columns

    @property
    def ordered_columns(self) -> list[dict[str, Any]]:
        """The columns as the page shows them: the target first; the strongest first where there are too many."""
        if len(self.columns) <= MAX_CARDS:
            return sorted(self.columns, key=lambda column: column.get("role") != "target")
        return sorted(self.columns, key=lambda column: (column.get("role") != "target", -strength(column)))

    def notes_of(self, column: Column) -> list[str]:
        return [self.message_of(finding) for finding in self.findings if finding.get("column") == column["name"]]

    def facts_of(self, column: Column) -> list[Fact]:
        missing = column.get("missing_share")
        entries = [("Missing", formatting.count(column.get("missing")), formatting.share(missing) if missing else "")]
        entries.append(("Distinct", formatting.count(column.get("distinct")), ""))
        outliers = column.get("outliers")
        is_drawn = self.usable_rows and not self._is_class_label(column)
        if outliers and is_drawn and column.get("distinct", 0) > 2:  # noqa: PLR2004 - the rarer of two is no outlier
            part = outliers["count"] / self.usable_rows
            entries.append(("Outliers", formatting.count(outliers["count"]), formatting.share(part) if part else ""))
        length = column.get("length") or {}
        if column.get("type") == "text" and length.get("mean") is not None:
            mean = formatting.number(round(length["mean"], 1))
            entries.append(("Characters", mean, f"up to {formatting.count(length['maximum'])}"))
        if column.get("association"):
            entries.append(("With target", association(column), ""))
        return entries

    def quantiles_of(self, column: Column) -> list[Fact]:
        """Return a column's quantiles, each of them a value of some row; none of a sensitive column."""
        quantiles = column.get("quantiles") or {}
        if not quantiles or self._is_class_label(column) or column["name"] in self.sensitive:
            return []
        is_date = column.get("type") == "datetime"
        write = formatting.timestamp if is_date else formatting.number
        if is_date:
            ends = [("Earliest", column.get("minimum")), ("Median", quantiles.get("0.5"))]
            return [(label, write(value)[:10], "") for label, value in [*ends, ("Latest", column.get("maximum"))]]
        picked: list[tuple[str, Any]] = [
            ("Minimum", column.get("minimum")),
            *((formatting.percent(float(level)), quantiles.get(level)) for level in ("0.05", "0.25")),
            ("Median", quantiles.get("0.5")),
            *((formatting.percent(float(level)), quantiles.get(level)) for level in ("0.75", "0.95")),
            ("Maximum", column.get("maximum")),
            ("Mean", _without_noise(column.get("mean"), column.get("standard_deviation"))),
            ("Std. dev.", column.get("standard_deviation")),
        ]
        return [(label, write(value), "") for label, value in picked]

    def values_of(self, column: Column) -> str:
        if column["name"] in self.sensitive:
            return MASK
        if column.get("categories"):
            return self._categories(column, column["categories"])
        if column.get("type") in ("integer", "number", "datetime") and column.get("minimum") is not None:
            low, high = (_bound(column, column[end]) for end in ("minimum", "maximum"))
            return f"{low} to {high}"
        if column.get("type") == "boolean":
            texts = [*(column.get("false_values") or ()), *(column.get("true_values") or ())]
            return ", ".join(texts) or "true, false"
        return f"{column['distinct']:,} distinct" if column.get("distinct") else ""

    def remark_on(self, column: Column) -> str:
        """Return the reason of a column's role and the rules that the spec sets for it."""
        rules: Document = column.get("rules") or {}
        low, high, allowed = rules.get("minimum"), rules.get("maximum"), rules.get("allowed") or ()
        nulls = rules.get("max_null_share")
        stated = [
            f"at least {_bound(column, low)}" if low is not None else "",
            f"at most {_bound(column, high)}" if high is not None else "",
            f"one of {self._categories(column, allowed)}" if allowed else "",
            f"matches {rules['pattern']}" if rules.get("pattern") else "",
            "unique" if rules.get("unique") else "",
            "no missing value" if rules.get("nullable") is False else "",
            f"at most {formatting.share(nulls)} missing" if nulls is not None else "",
        ]
        demands = ", ".join(part for part in stated if part)
        modal = "should be" if rules.get("severity") == "warning" else "must be"
        return "; ".join(part for part in (column.get("reason"), f"{modal}: {demands}" if demands else "") if part)

    def _categories(self, column: Column, values: Sequence[Any]) -> str:
        shown = ", ".join(dict.fromkeys(self.masked(column["name"], value) for value in values[:_SHOWN_CATEGORIES]))
        more = len(values) - _SHOWN_CATEGORIES
        return f"{shown} and {more:,} more" if more > 0 else shown

    # -- datasheet

    @property
    def limitations(self) -> list[str]:
        """Findings of the checks, and weaknesses that the profile shows."""
        found = [formatting.sentence(self.message_of(finding)) for finding in self.findings]
        if not self.profile:
            return found[:_SHOWN_LIMITATIONS]
        if self.usable_rows < FEW_ROWS:
            found.append(f"With {formatting.count(self.usable_rows, 'row')}, differences between models are uncertain.")
        counts: Mapping[str, int] = self.target.get("classes") or {}
        total = max(1, sum(counts.values()))
        rare = [self.masked(self.target["name"], name) for name, n in counts.items() if n / total < RARE_CLASS_SHARE]
        if rare and len(counts) < 1 / RARE_CLASS_SHARE:
            least = formatting.share(RARE_CLASS_SHARE)
            found.append(f"Rare classes, below {least} of the rows: {join_names(rare, _SHOWN_NAMES)}.")
        features = self.having("role", "feature")
        gaps = [str(one["name"]) for one in features if (one.get("missing_share") or 0) > MISSING_SHARE]
        if gaps:
            found.append(f"More than {formatting.share(MISSING_SHARE)} missing: {join_names(gaps, _SHOWN_NAMES)}.")
        strong = [str(one["name"]) for one in features if strength(one) > STRONG]
        if strong:
            found.append(f"So close to the target that they may give it away: {join_names(strong, _SHOWN_NAMES)}.")
        return found[:_SHOWN_LIMITATIONS]

    # -- charts

    @property
    def associated_columns(self) -> list[dict[str, Any]]:
        return sorted((column for column in self.columns if column.get("association")), key=strength, reverse=True)

    @property
    def association_bars(self) -> list[Bar]:
        return [
            Bar(str(column["name"]), strength(column), association(column), _direction(column["association"]))
            for column in self.associated_columns[:SHOWN_ASSOCIATIONS]
        ]

    @property
    def association_note(self) -> str:
        used = {column["association"]["measure"] for column in self.associated_columns}
        names = "; ".join(name for key, name in _MEASURE_NAMES.items() if key in used)
        sampled = self.profile.get("association_rows") or 0
        return f"{names}." + (f" Computed on a sample of {sampled:,} rows." if 0 < sampled < self.usable_rows else "")

    def chart_of(self, column: Column) -> _ColumnChart:
        if self._is_class_label(column):
            return self._class_chart()
        if column.get("histogram"):
            # A bar begins and ends at some row's value, and a bar of one row gives that row away.
            if column["name"] in self.sensitive:
                return _ColumnChart(note="The distribution of a sensitive column is not drawn.")
            return self._histogram(column)
        if column.get("top") and column.get("type") != "text" and column.get("role") != "identifier":
            return self._value_chart(column)
        return _ColumnChart()

    def _is_class_label(self, column: Column) -> bool:
        return column.get("role") == "target" and bool(self.target.get("classes"))

    def _class_chart(self) -> _ColumnChart:
        counts: Mapping[str, int] = self.target["classes"]
        total, most = max(1, sum(counts.values())), max(1, *counts.values())
        name = self.target["name"]
        bars = [
            Bar(self.masked(name, label), count / most, _amount(count, total))
            for label, count in list(counts.items())[:_SHOWN_CLASSES]
        ]
        if len(counts) > _SHOWN_CLASSES:
            rest = sum(list(counts.values())[_SHOWN_CLASSES:])
            more = len(counts) - _SHOWN_CLASSES
            bars.append(Bar(f"{more:,} other", rest / most, _amount(rest, total), is_rest=True))
        return _ColumnChart(bars=bars, heads=("Class", "Rows"), caption=f"Classes of {name}")

    def _value_chart(self, column: Column) -> _ColumnChart:
        rows = max(1, self.usable_rows)
        top = column["top"][:_SHOWN_VALUES]
        most = max([entry["count"] for entry in top] + [1])
        target = self.target
        is_binary = target.get("task") == "binary"
        write = formatting.share if is_binary else formatting.number
        # The mean of a few rows gives their values away; a share of the positive class does not.
        is_shown = is_binary or target.get("name") not in self.sensitive
        has_means = is_shown and any("target_mean" in entry for entry in top)
        bars = [
            Bar(
                self.masked(column["name"], entry["value"]),
                entry["count"] / most,
                _amount(entry["count"], rows),
                write(entry.get("target_mean")) if has_means else "",
            )
            for entry in top
        ]
        others = column.get("distinct", len(top)) - len(top)
        if others > 0:
            count = column.get("other", 0) + sum(entry["count"] for entry in column["top"][_SHOWN_VALUES:])
            bars.append(Bar(f"{others:,} other", count / most, _amount(count, rows), is_rest=True))
        missing = column.get("missing")
        if missing:
            bars.append(Bar("missing", missing / most, _amount(missing, rows), is_rest=True))
        head = self.masked(target["name"], target.get("positive")) if is_binary else f"mean {target.get('name')}"
        heads = ("Value", "Rows", head) if has_means else ("Value", "Rows")
        return _ColumnChart(bars=bars, heads=heads, caption=f"Most frequent values of {column['name']}")

    def _histogram(self, column: Column) -> _ColumnChart:
        drawn = column["histogram"]
        edges, counts = drawn["edges"], drawn["counts"]
        names = _bar_names(column, edges)
        figure = charts.histogram(
            edges,
            self._series(drawn),
            description=_describe(column["name"], names, counts),
            write=epoch_day if column.get("type") == "datetime" else formatting.short_number,
            ticks=_ticks(column, edges),
            bar_names=names,
        )
        hidden = [f"{formatting.count(drawn[side], 'row')} {side}" for side in ("below", "above") if drawn.get(side)]
        note = f"Not drawn: {' and '.join(hidden)}, far from the others." if hidden else ""
        return _ColumnChart(histogram=figure, note=note)

    def _series(self, drawn: Document) -> list[Series]:
        target, counts = self.target, drawn["counts"]
        means = drawn.get("target_means")
        if not means or target.get("task") != "binary" or not target.get("positive"):
            return [Series("", counts)]
        positive = [round((mean or 0.0) * count) for mean, count in zip(means, counts, strict=True)]
        rest = [count - part for count, part in zip(counts, positive, strict=True)]
        other = next((name for name in target["classes"] if name != target["positive"]), "other")
        pairs = ((other, rest), (target["positive"], positive))
        return [Series(f"{target['name']}: {self.masked(target['name'], name)}", part) for name, part in pairs]


def association(column: Column) -> str:
    """Return a column's association with the target as its measure's sign and value; a dash where there is none."""
    measured = column.get("association")
    if not measured:
        return NOT_KNOWN
    return f"{_MEASURES.get(measured['measure'], measured['measure'])} {measured['value']:.2f}"


def strength(column: Column) -> float:
    """Return the strength of a column's association, to rank columns by; -1 where there is none."""
    measured = column.get("association")
    return float(measured["strength"]) if measured else -1.0


def _direction(measured: Document) -> str:
    neutral = {"auc": 0.5, "spearman": 0.0}.get(measured["measure"])
    if neutral is None or measured["value"] == neutral:
        return ""
    return "↑ rises" if measured["value"] > neutral else "↓ falls"


def _merged(*documents: Document) -> list[dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for document in documents:
        for column in document.get("columns") or ():
            merged.setdefault(column["name"], {}).update(column)
    return list(merged.values())


def _place(row: Document) -> str:
    """Return the line of a row and, of several files, the file."""
    line, file = row.get("line"), row.get("file")
    return f"line {line:,}{f' of {file}' if file else ''}" if line else ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _bound(column: Column, value: str | float) -> str:
    """Format an end of a range; a schema has seconds where a profile has ISO 8601."""
    if column.get("type") != "datetime":
        return formatting.number(float(value))
    return formatting.timestamp(value) if isinstance(value, str) else epoch_seconds(value)


def _amount(count: int, rows: int) -> str:
    return f"{formatting.short_number(count)} · {formatting.share(count / rows)}"


def _without_noise(mean: float | None, deviation: float | None) -> float | None:
    """Return a mean, or 0 where it is nothing but rounding errors."""
    return 0.0 if mean and deviation and abs(mean) < _ROUNDING * deviation else mean


def _ticks(column: Column, edges: Sequence[float]) -> list[float] | None:
    """Label dates where their text has room, integers at integers, and other numbers at round ones."""
    low, high = edges[0], edges[-1]
    if column.get("type") == "datetime":
        return [low + (high - low) * eighths / 8 for eighths in (1, 3, 5, 7)]
    if column.get("type") == "integer":
        return charts.round_ticks(low, high, _INTEGER_STEPS, least=1.0)
    return None


def _bar_names(column: Column, edges: Sequence[float]) -> list[str]:
    """Name bars by their content: an integer's by the integers, whose bars begin and end half-way between two."""
    ends = list(pairwise(edges))
    write = epoch_day if column.get("type") == "datetime" else formatting.number
    if column.get("type") == "integer" and all(edge % 1 == 0.5 for edge in edges):  # noqa: PLR2004  # half-way
        ends = [(left + 0.5, right - 0.5) for left, right in ends]
    written = [(write(left), write(right)) for left, right in ends]
    return [left if left == right else f"{left} to {right}" for left, right in written]


def _describe(name: str, bar_names: Sequence[str], counts: Sequence[int]) -> str:
    tallest = max(range(len(counts)), key=counts.__getitem__)
    total = sum(counts)
    part = f" ({formatting.share(counts[tallest] / total)})" if total else ""
    return (
        f"Histogram of {name} with {formatting.count(len(counts), 'bar')}, the first {bar_names[0]}, the last "
        f"{bar_names[-1]}; the tallest, {bar_names[tallest]}, holds {formatting.count(counts[tallest], 'row')}{part}."
    )
