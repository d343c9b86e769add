"""What a dataset report is about: the stored documents, read with care, and with sensitive values masked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.schema import MASK


@dataclass(frozen=True, slots=True)
class Subject:
    """The documents that a report shows, any of which may lack what a rejected upload never came to.

    Parameters
    ----------
    model : str
        The model's name.
    validation, profile, manifest, schema : mapping
        ``validation.json``, ``profile.json``, ``manifest.json`` and the schema's JSON.
    quarantine : sequence of mapping
        A sample of the rows set aside.
    datasheet : mapping of str to str
        What the spec says about the data in the user's own words.
    split : mapping
        The spec's split.
    sensitive : frozenset of str
        Columns whose values are masked.
    """

    model: str
    validation: Mapping[str, Any]
    profile: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] = field(default_factory=dict)
    quarantine: Sequence[Mapping[str, Any]] = ()
    datasheet: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    sensitive: frozenset[str] = frozenset()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Subject":
        """Read the document that :func:`render_dataset_report` takes."""
        parts = {
            name: document.get(name) or {}
            for name in ("validation", "profile", "manifest", "schema", "datasheet", "split")
        }
        described = [*parts["profile"].get("columns", ()), *parts["schema"].get("columns", ())]
        sensitive = {column["name"] for column in described if column.get("sensitive")}
        return cls(
            model=document["model"],
            quarantine=document.get("quarantine") or (),
            sensitive=frozenset(sensitive | set(document.get("sensitive") or ())),
            **parts,
        )

    @property
    def accepted(self) -> bool:
        """Whether the upload became a dataset."""
        return bool(self.validation.get("outcome") == "accepted")

    @property
    def dataset_id(self) -> str | None:
        """The dataset's id, once it is one."""
        return self.manifest.get("dataset_id") or self.validation.get("dataset_id")

    @property
    def file(self) -> str:
        """The uploaded object's key."""
        return str(self.validation.get("file") or "")

    @property
    def file_name(self) -> str:
        """The uploaded object's own name, or its folder's."""
        folder = self.validation.get("folder")
        if folder:
            return f"{str(folder).rstrip('/').rsplit('/', 1)[-1]}/"
        return self.file.rstrip("/").rsplit("/", 1)[-1] or "upload"

    @property
    def rows(self) -> int:
        """Rows of the upload, those set aside among them."""
        return int(self.validation.get("rows") or 0)

    @property
    def usable_rows(self) -> int:
        """Rows that were accepted."""
        return int(self.validation.get("usable_rows") or self.profile.get("rows") or 0)

    @property
    def quarantined_rows(self) -> int:
        """Rows that were set aside."""
        return int(self.validation.get("quarantined_rows") or 0)

    @property
    def quarantined_share(self) -> float:
        """Share of the upload's rows that were set aside."""
        return self.quarantined_rows / self.rows if self.rows else 0.0

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """What the checks found, errors first."""
        found: Sequence[Mapping[str, Any]] = self.validation.get("findings") or ()
        return sorted(found, key=lambda finding: finding.get("severity") != "error")

    def findings_of(self, severity: str) -> list[Mapping[str, Any]]:
        """Return the findings of one severity."""
        return [finding for finding in self.findings if finding.get("severity") == severity]

    @property
    def columns(self) -> list[dict[str, Any]]:
        """What is known of each column, as it is in this dataset: the profile's facts above the schema's."""
        return _merged(self.validation, self.schema, self.profile)

    @property
    def schema_columns(self) -> list[dict[str, Any]]:
        """What is known of each column, as every dataset is held to it: the schema's facts above the profile's."""
        return _merged(self.validation, self.profile, self.schema)

    @property
    def target(self) -> Mapping[str, Any]:
        """The target's name, task, class counts and positive class, as far as they are known."""
        stated = {"name": self.validation.get("target"), "task": self.validation.get("task")}
        return {**stated, **(self.profile.get("target") or {})}

    def shown(self, column: str | None, value: Any) -> str:
        """Return a column's value as text, masked when the column is sensitive."""
        return MASK if column in self.sensitive else str(value)

    def masked_message(self, column: str | None, message: str, values: Sequence[Any]) -> str:
        """Return a sentence about a column without the values that it quotes, when the column is sensitive."""
        if column not in self.sensitive:
            return message
        for value in sorted({str(value) for value in values if value is not None}, key=len, reverse=True):
            for quoted in (repr(value), f'"{value}"'):
                message = message.replace(quoted, MASK)
        return message


def _merged(*documents: Mapping[str, Any]) -> list[dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for document in documents:
        for column in document.get("columns") or ():
            merged.setdefault(column["name"], {}).update(column)
    return list(merged.values())
