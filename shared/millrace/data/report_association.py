"""The ranking of a dataset report: how closely each column goes with the target."""

from collections.abc import Mapping
from typing import Any

from millrace.data.report_subject import Subject
from millrace.reporting.blocks import TableColumn, folded, table
from millrace.reporting.figures import bar_list
from millrace.reporting.html import Html, element, join

SHOWN_ASSOCIATIONS = 25

_MEASURES = {"auc": "AUC", "cramers_v": "V", "correlation_ratio": "η", "spearman": "\N{GREEK SMALL LETTER RHO}"}
_MEASURE_NAMES = {
    "auc": "AUC: area under the ROC curve of the column alone",
    "cramers_v": "V: Cramér's V, corrected for bias",
    "correlation_ratio": "η: correlation ratio",
    "spearman": "\N{GREEK SMALL LETTER RHO}: Spearman's rank correlation",
}

Column = Mapping[str, Any]


def strength(column: Column) -> float:
    """Return the strength of a column's association, to rank columns by; -1 where there is none."""
    measured = column.get("association")
    return float(measured["strength"]) if measured else -1.0


def association_text(measured: Mapping[str, Any]) -> str:
    """Return an association as its measure's sign and value."""
    return f"{_MEASURES.get(measured['measure'], measured['measure'])} {measured['value']:.2f}"


def association_ranking(subject: Subject) -> Html:
    """Return the columns by how closely they go with the target, the first of them drawn."""
    measured = sorted((column for column in subject.columns if column.get("association")), key=strength, reverse=True)
    drawn = [
        (
            element("span", column["name"], class_="clip"),
            strength(column),
            association_text(column["association"]),
            _direction(column["association"]),
        )
        for column in measured[:SHOWN_ASSOCIATIONS]
    ]
    used = [name for key, name in _MEASURE_NAMES.items() if any(c["association"]["measure"] == key for c in measured)]
    sampled = subject.profile.get("association_rows") or 0
    of_sample = f" Computed on a sample of {sampled:,} rows." if 0 < sampled < subject.usable_rows else ""
    chart = bar_list(
        drawn, caption="Columns by association with the target", heads=("Column", "Association", "Direction"), wide=True
    )
    rest = measured[SHOWN_ASSOCIATIONS:]
    columns = (TableColumn("Column"), TableColumn("Association", "number"), TableColumn("Strength", "number"))
    further = [(column["name"], association_text(column["association"]), f"{strength(column):.2f}") for column in rest]
    return join(
        element("div", chart, element("p", f"{'; '.join(used)}.{of_sample}", class_="quiet"), class_="panel ranking"),
        folded(f"{len(rest):,} weaker columns", table(columns, further, caption="Weaker associations with the target"))
        if rest
        else None,
    )


def _direction(measured: Mapping[str, Any]) -> str:
    neutral = {"auc": 0.5, "spearman": 0.0}.get(measured["measure"])
    if neutral is None or measured["value"] == neutral:
        return ""
    return "↑ rises" if measured["value"] > neutral else "↓ falls"
