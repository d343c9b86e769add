"""The datasheet of a dataset: what somebody must know before relying on it, computed as far as it can be.

The questions are those of Gebru et al., "Datasheets for Datasets", Communications of the ACM 64 (12), 2021. Motivation,
collection, uses and maintenance only people know: they are taken from the spec, or said to be unanswered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.data.report_subject import Subject
from millrace.reporting import wording
from millrace.reporting.blocks import bullets, pairs
from millrace.reporting.html import Content, Html, element, join

#: When a datasheet mentions what a check need not: gaps, rare classes, few rows, columns that tell too much.
MISSING_SHARE = 0.3
RARE_CLASS_SHARE = 0.1
FEW_ROWS = 1_000
STRONG = 0.95
SHOWN_NAMES = 8
SHOWN_LIMITATIONS = 20

#: What the spec may answer, and the question's heading.
ANSWERS = {
    "motivation": "Motivation",
    "collection": "Collection process",
    "uses": "Uses",
    "licence": "Licence",
    "maintenance": "Maintenance",
}


def datasheet(subject: Subject) -> Html:
    """Return the datasheet's parts."""
    parts: list[tuple[str, Content]] = [
        ("In the owner's words", _answers(subject)),
        ("Composition", pairs(_composition(subject))),
        ("Source and version", pairs(_source(subject))),
        ("Known limitations", bullets(limitations(subject) or ["None was found by the checks."])),
        ("Preprocessing", bullets(_preprocessing(subject))),
        ("Splits", bullets(_splits(subject))),
    ]
    return element(
        "div",
        [element("div", element("h3", title), content, class_="panel") for title, content in parts],
        class_="sheet",
    )


def _answers(subject: Subject) -> Html:
    given = {name: str(subject.datasheet.get(name) or "").strip() for name in ANSWERS}
    unanswered = [title.lower() for name, title in ANSWERS.items() if not given[name]]
    answered = [(title, _paragraphs(given[name])) for name, title in ANSWERS.items() if given[name]]
    note = f"Not answered: {', '.join(unanswered)}. The model's spec can say it, under datasheet."
    return join(
        pairs(answered) if answered else None,
        element("p", note, class_="quiet after" if answered else "quiet") if unanswered else None,
    )


def _paragraphs(text: str) -> Html:
    return join([element("p", paragraph) for paragraph in text.split("\n\n") if paragraph.strip()])


def _composition(subject: Subject) -> list[tuple[str, Content]]:
    columns = subject.columns
    types = Counter(str(column.get("type")) for column in columns if column.get("role") == "feature")
    cells = subject.usable_rows * len(columns)
    target = subject.target
    entries: list[tuple[str, Content]] = [
        ("Instances", f"{wording.count(subject.usable_rows, 'row')} in {wording.count(len(columns), 'column')}"),
        ("Features", ", ".join(f"{count} {name}" for name, count in types.most_common()) or "none"),
        ("Target", f"{target['name']} ({target['task']})" if target.get("name") else wording.NOT_KNOWN),
    ]
    if target.get("classes"):
        entries.append(("Classes", ", ".join(_class_shares(subject))))
    entries.append(("Identifiers", _names(subject, "identifier") or "none"))
    if cells and "missing_mask" in subject.profile:
        share = wording.share(subject.profile["missing_mask"] / cells)
        complete = wording.count(subject.profile.get("complete_rows"), "row")
        entries.append(("Missing values", f"{share} of the cells; {complete} complete"))
    entries.append(("Sensitive columns", ", ".join(sorted(subject.sensitive)) or "none is marked as sensitive"))
    return entries


def _class_shares(subject: Subject) -> list[str]:
    target = subject.target
    counts: Mapping[str, int] = target["classes"]
    total = max(1, sum(counts.values()))
    shown = [
        f"{subject.shown(target['name'], name)} {wording.share(count / total)}"
        for name, count in list(counts.items())[:SHOWN_NAMES]
    ]
    return [*shown, f"{len(counts) - SHOWN_NAMES} more"] if len(counts) > SHOWN_NAMES else shown


def _names(subject: Subject, role: str) -> str:
    return ", ".join(str(column["name"]) for column in subject.columns if column.get("role") == role)


def _source(subject: Subject) -> list[tuple[str, Content]]:
    validation, manifest = subject.validation, subject.manifest
    digests: Mapping[str, str] = manifest.get("sha256") or {}
    entries: list[tuple[str, Content]] = [
        ("Object", element("code", subject.file)),
        ("Files", _files(validation.get("files") or ())),
        ("Version", element("code", str(validation.get("version_id") or wording.NOT_KNOWN))),
        ("Uploaded", wording.moment(validation.get("uploaded_at"))),
        ("Format", ", ".join(f"{key} {value}" for key, value in (validation.get("format") or {}).items()) or None),
        ("Run", element("code", str(validation["run_id"])) if validation.get("run_id") else None),
        ("Dataset", element("code", subject.dataset_id) if subject.dataset_id else "none: the upload was rejected"),
        ("Schema version", str(manifest["schema_version"]) if manifest.get("schema_version") else None),
        ("Code version", str(manifest["code_version"]) if manifest.get("code_version") else None),
        ("Record's SHA-256", element("code", digests["data.parquet"]) if "data.parquet" in digests else None),
    ]
    return [(name, value) for name, value in entries if value]


def _files(names: Sequence[str]) -> str | None:
    return f"{len(names):,}: {_listed(list(names))}" if names else None


def _preprocessing(subject: Subject) -> list[str]:
    told = [
        f"{wording.count(subject.quarantined_rows, 'row')} of {subject.rows:,} "
        f"({wording.share(subject.quarantined_share)}) {'was' if subject.quarantined_rows == 1 else 'were'} set aside "
        "with the reason, and not corrected."
        if subject.quarantined_rows
        else "No row was set aside.",
    ]
    ignored = [column for column in subject.columns if column.get("role") == "ignored"]
    if ignored:
        names = "; ".join(f"{column['name']} ({column.get('reason') or 'ignored'})" for column in ignored[:SHOWN_NAMES])
        more = f"; {len(ignored) - SHOWN_NAMES} more" if len(ignored) > SHOWN_NAMES else ""
        told.append(f"Left out of training: {names}{more}.")
    if any(column.get("type") == "datetime" for column in subject.columns):
        told.append("Dates become days, month, weekday and hour, in UTC.")
    told.append("Nothing is imputed, encoded or scaled in the record: that is part of the model, so training and "
                "serving cannot differ.")  # fmt: skip
    return told


def _splits(subject: Subject) -> list[str]:
    split: Mapping[str, Any] = subject.split or {}
    by, test, validation = split.get("by", "random"), split.get("test_share", 0.2), split.get("validation_share", 0.2)
    rule = {
        "time": f"By time: the newest rows of {split.get('column')!r} are the test.",
        "group": f"By group: all rows of one {split.get('column')!r} are on one side.",
    }.get(by, "At random, by a hash of the row or of its identifier, so that a row is always on the same side.")
    shares = f"{wording.share(1 - test - validation)} training, {wording.share(validation)} validation, "
    return [rule, f"{shares}{wording.share(test)} test, drawn when a run prepares its data, not in this record."]


def limitations(subject: Subject) -> list[str]:
    """Return what speaks against relying on the dataset: what the checks found, and what the profile shows."""
    told = [
        subject.masked_message(finding.get("column"), _sentence(finding["message"]), finding.get("examples") or ())
        for finding in subject.findings
    ]
    if not subject.profile:
        return told[:SHOWN_LIMITATIONS]
    if subject.usable_rows < FEW_ROWS:
        told.append(f"With {wording.count(subject.usable_rows, 'row')}, differences between models are uncertain.")
    counts: Mapping[str, int] = subject.target.get("classes") or {}
    total = max(1, sum(counts.values()))
    rare = [subject.shown(subject.target["name"], name) for name, n in counts.items() if n / total < RARE_CLASS_SHARE]
    if rare and len(counts) < 1 / RARE_CLASS_SHARE:
        told.append(f"Rare classes, below {wording.share(RARE_CLASS_SHARE)} of the rows: {_listed(rare)}.")
    features = [column for column in subject.columns if column.get("role") == "feature"]
    gaps = [str(column["name"]) for column in features if (column.get("missing_share") or 0) > MISSING_SHARE]
    if gaps:
        told.append(f"More than {wording.share(MISSING_SHARE)} missing: {_listed(gaps)}.")
    strong = [str(c["name"]) for c in features if c.get("association") and c["association"]["strength"] > STRONG]
    if strong:
        told.append(f"So close to the target that they may give it away: {_listed(strong)}.")
    return told[:SHOWN_LIMITATIONS]


def _sentence(message: str) -> str:
    text = message[:1].upper() + message[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")
