"""The spec over what was inferred, and what a change of the schema means for the data there is."""

from dataclasses import replace

import pytest
from millrace.data.schema_changes import (
    added_columns,
    compare_column_names,
    compare_schemas,
    declare_columns,
    extend_schema,
    next_schema,
    numbered,
    redeclare,
)
from millrace.schema import NO_RULES, Column, TableSchema
from millrace.spec import ModelSpec

SCHEMA = TableSchema(
    (
        Column("key", "category", "identifier", reason="every row has another value"),
        Column("age", "integer"),
        Column("plan", "category", categories=("a", "b")),
        Column("since", "datetime", nullable=True, formats=("%d/%m/%Y",)),
        Column("notes", "text", "ignored", nullable=True, reason="free text"),
        Column("label", "integer", "target"),
    ),
    "binary",
    ("0", "1"),
    version=2,
    revision=1,
)


def spec(**columns: dict) -> ModelSpec:
    return ModelSpec.parse({"columns": columns})


def changed(name: str, **changes: object) -> TableSchema:
    columns = [replace(column, **changes) if column.name == name else column for column in SCHEMA.columns]
    return replace(SCHEMA, columns=tuple(columns))


def declared(column: Column, **said: object) -> Column:
    (found,), _ = declare_columns([column], spec(**{column.name: said}))
    return found


class TestDeclaring:
    def test_what_is_not_said_stays_as_it_was_inferred(self):
        columns, findings = declare_columns(SCHEMA.columns, ModelSpec())
        assert tuple(columns) == SCHEMA.columns
        assert findings == []

    def test_rules_come_from_the_spec_and_go_with_it(self):
        ruled = redeclare(SCHEMA, spec(age={"minimum": 0, "severity": "warning", "nullable": False}))
        rules = ruled.column("age").rules
        assert (rules.minimum, rules.severity, rules.nullable) == (0.0, "warning", False)
        assert redeclare(ruled, ModelSpec()).column("age").rules == NO_RULES

    @pytest.mark.parametrize(
        ("column", "said", "expected"),
        [
            (Column("a", "integer"), {"type": "category"}, Column("a", "category")),
            (
                Column("a", "integer", minimum=0.0, maximum=1.0),
                {"type": "boolean"},
                Column("a", "boolean", true_values=("1",), false_values=("0",)),
            ),
            (
                Column("a", "text", "ignored", reason="day and month could change places"),
                {"type": "datetime", "formats": ["%d/%m/%Y"]},
                Column("a", "datetime", formats=("%d/%m/%Y",)),
            ),
            (Column("a", "text", "ignored", reason="free text"), {"role": "feature"}, Column("a", "category")),
            (Column("a", "category"), {"type": "text"}, Column("a", "text")),
            (Column("a", "text", "ignored", reason="free text"), {"type": "text"}, Column("a", "text")),
            (
                Column("a", "text", "ignored", reason="free text"),
                {"type": "text", "role": "feature"},
                Column("a", "text"),
            ),
            (Column("a", "text"), {"role": "feature"}, Column("a", "text")),
            (Column("a", "text"), {"type": "category"}, Column("a", "category")),
            (
                Column("a", "text"),
                {"type": "text", "role": "ignored"},
                Column("a", "text", "ignored", reason="said by the spec"),
            ),
            (Column("a", "integer"), {"role": "ignored"}, Column("a", "integer", "ignored", reason="said by the spec")),
            (
                Column("a", "integer", "ignored", reason="constant: every value is '1'"),
                {"type": "number"},
                Column("a", "number", "ignored", reason="constant: every value is '1'"),
            ),
            (
                Column("a", "datetime", formats=("%m/%d/%Y",)),
                {"formats": ["%d/%m/%Y", "iso"]},
                Column("a", "datetime", formats=("%d/%m/%Y", "iso")),
            ),
        ],
    )
    def test_what_is_said_wins(self, column, said, expected):
        found = declared(column, **said)
        assert replace(found, rules=NO_RULES) == expected
        # Said again about the result, it changes nothing more.
        assert declared(found, **said) == found

    def test_the_target_keeps_its_role(self):
        column = Column("label", "integer", "target")
        assert declared(column, type="category").role == "target"

    def test_where_the_spec_names_the_identifier_no_other_is_one(self):
        columns = redeclare(SCHEMA, ModelSpec(id_column="age"))
        assert columns.identifier is not None
        assert columns.identifier.name == "age"
        assert columns.column("key").role == "ignored"
        assert "'age'" in columns.column("key").reason

    def test_a_column_that_the_spec_counts_on_must_be_there(self):
        asked = ModelSpec.parse(
            {
                "columns": {"agee": {"minimum": 0}, "plann": {"role": "feature"}, "gone": {"role": "ignored"}},
                "split": {"by": "time", "column": "sinze"},
            }
        )
        _, findings = declare_columns(SCHEMA.columns, asked)
        assert [(found.severity, found.column) for found in findings] == [
            ("error", "plann"),
            ("error", "sinze"),
            ("warning", "agee"),
        ]

    def test_a_new_column_is_taken_in_when_the_spec_asks_for_it(self):
        asked = spec(city={"role": "feature"}, noise={"role": "ignored"})
        names = [*(column.name for column in SCHEMA.columns), "city", "noise", "other"]
        assert added_columns(SCHEMA, names, asked) == ["city"]
        extended = extend_schema(SCHEMA, [Column("city", "category")], asked)
        assert extended.column("city").nullable
        assert compare_schemas(SCHEMA, extended).kind == "compatible"


class TestComparing:
    def test_the_same_is_no_change_whatever_values_were_seen(self):
        other = changed("plan", categories=("x",), nullable=True)
        assert compare_schemas(SCHEMA, SCHEMA).kind == "none"
        assert compare_schemas(SCHEMA, other).kind == "none"

    @pytest.mark.parametrize(
        ("after", "told"),
        [
            (changed("age", type="number"), "'age': type was integer and is number"),
            (changed("plan", type="text", role="ignored"), "role was feature and is ignored"),
            (changed("since", formats=("iso",)), "formats was %d/%m/%Y and is iso"),
            (redeclare(SCHEMA, spec(age={"maximum": 9})), "'age': rule maximum was none and is 9.0"),
            (replace(SCHEMA, columns=(*SCHEMA.columns, Column("x", "number", nullable=True))), "is new, as feature"),
        ],
    )
    def test_what_leaves_earlier_data_usable_is_compatible(self, after, told):
        change = compare_schemas(SCHEMA, after)
        assert change.kind == "compatible"
        assert told in "; ".join(change.details)

    @pytest.mark.parametrize(
        ("after", "told"),
        [
            (changed("age", type="datetime"), "'age' was integer and is datetime"),
            (changed("age", role="identifier"), "'age' was integer and is an identifier"),
            (replace(SCHEMA, columns=SCHEMA.columns[1:]), "'key' is gone"),
            (replace(SCHEMA, columns=(*SCHEMA.columns, Column("x", "number"))), "'x' may not be missing"),
            (replace(SCHEMA, classes=("0", "1", "2"), task="multiclass"), "the task was binary"),
            (replace(SCHEMA, classes=("0", "2")), "the classes were 0, 1 and are 0, 2"),
        ],
    )
    def test_what_does_not_starts_a_new_version(self, after, told):
        change = compare_schemas(SCHEMA, after)
        assert change.kind == "incompatible"
        assert told in change.details[0]

    def test_versions_and_revisions_are_counted(self):
        assert (numbered(SCHEMA, None).version, numbered(SCHEMA, None).revision) == (1, 0)
        same = numbered(replace(SCHEMA, version=1, revision=0), SCHEMA)
        assert (same.version, same.revision) == (2, 1)
        compatible = numbered(changed("age", type="number"), SCHEMA)
        assert (compatible.version, compatible.revision) == (2, 2)
        incompatible = numbered(changed("age", type="category"), SCHEMA)
        assert (incompatible.version, incompatible.revision) == (3, 0)


class TestNextSchema:
    @pytest.mark.parametrize(
        "asked",
        [
            ModelSpec(target="age"),
            ModelSpec(task="regression"),
            spec(age={"type": "category"}),
            ModelSpec(id_column="age"),
        ],
    )
    def test_an_incompatible_spec_asks_for_a_schema_inferred_anew(self, asked):
        assert next_schema(SCHEMA, asked) is None

    @pytest.mark.parametrize("asked", [ModelSpec(), ModelSpec(target="LABEL"), ModelSpec(task="multiclass")])
    def test_a_spec_that_says_nothing_new_changes_nothing(self, asked):
        assert next_schema(SCHEMA, asked) == SCHEMA

    def test_a_compatible_spec_is_laid_over_the_schema(self):
        following = next_schema(SCHEMA, spec(notes={"role": "feature"}))
        assert following is not None
        assert following.column("notes").type == "category"


class TestColumnsOfAnUpload:
    NAMES = tuple(column.name for column in SCHEMA.columns)

    def test_a_complete_upload_has_no_findings(self):
        assert compare_column_names(self.NAMES, SCHEMA) == []

    def test_ignored_columns_may_be_absent(self):
        assert compare_column_names([name for name in self.NAMES if name != "notes"], SCHEMA) == []

    def test_a_missing_column_is_an_error_with_the_way_to_mend_it(self):
        (found,) = compare_column_names(["key", "Age", "plan", "since", "label"], SCHEMA)[:1]
        assert (found.severity, found.check, found.column) == ("error", "missing_column", "age")
        assert "rename 'Age'" in found.message
        (found,) = compare_column_names([name for name in self.NAMES if name != "plan"], SCHEMA)
        assert "nullable: true" in found.message
        assert "role: ignored" in found.message
        (found,) = compare_column_names([name for name in self.NAMES if name != "label"], SCHEMA)
        assert "add it, or upload" in found.message  # nothing in the spec could spare the target

    def test_a_column_that_may_be_missing_is_a_warning(self):
        optional = redeclare(SCHEMA, spec(plan={"nullable": True}))
        (found,) = compare_column_names([name for name in self.NAMES if name != "plan"], optional)
        assert (found.severity, found.check) == ("warning", "missing_column")

    def test_a_new_column_is_a_warning_with_the_way_to_use_it(self):
        (found,) = compare_column_names([*self.NAMES, "city"], SCHEMA)
        assert (found.severity, found.check, found.column) == ("warning", "new_column", "city")
        assert "columns: {city: {role: feature}}" in found.message
