"""What a spec accepts never breaks a later run: any accepted spec gives every upload a result that is no crash."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.data.prepare import prepare
from millrace.data.validation import validate_upload
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec
from millrace.spec.data import ColumnSpec
from millrace.spec.patterns import check_pattern

ROWS = [
    f"{row},{row * 1.5},{'ab'[row % 2]},2024-01-{row % 28 + 1:02},{row}/3/2024,some words {row},{row % 3 == 0}"
    for row in range(60)
]
TABLE = "\n".join(["n,x,kind,day,slashed,note,label", *ROWS]).encode()
COLUMNS = ["n", "x", "kind", "day", "slashed", "note", "label"]

FIRST = validate_upload(TABLE, "t.csv", ModelSpec(), {}, None)

names = st.sampled_from([*COLUMNS, "nothing", "", "ü"])
numbers = st.one_of(
    st.sampled_from(
        [0, 1, -1, 1.5, 10**30, 10**300, 2**31, 2**32, 2**63, 1e308, -1e308, 1e12, float("nan"), float("inf")]
    ),
    st.integers(),
    st.floats(),
)
texts = st.one_of(
    st.sampled_from(
        ["iso", "%d/%m/%Y", "%Y%Y", "%", "%U", "%Z%z", "%%", "a", "1", "utf-16", "zlib", "idna", "\0", "\n", "é"]
    ),
    st.text(max_size=5),
)
patterns = st.one_of(
    st.sampled_from([r"a\Z", "a{1001}", ".*", "[ab]", r"\d+", "(" * 499 + ")" * 499, "x{4294967296}"]), texts
)
conditions = st.one_of(
    st.sampled_from(
        ["n > 1", "1 == 2", "day > '2024-01-01'", "day > 'x'", "n / 0 > x", "not kind", "kind == note", "-day < 1"]
    ),
    st.tuples(names, st.sampled_from(["<", "==", "+", "and"]), numbers).map(lambda parts: " ".join(map(str, parts))),
    texts,
)


def some(**fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional=fields)


columns = some(
    type=st.sampled_from(["integer", "number", "boolean", "category", "datetime", "text"]),
    role=st.sampled_from(["feature", "target", "identifier", "ignored"]),
    nullable=st.booleans(),
    minimum=numbers,
    maximum=numbers,
    allowed=st.lists(st.one_of(texts, numbers), max_size=3),
    pattern=patterns,
    unique=st.booleans(),
    max_null_share=numbers,
    formats=st.lists(texts, max_size=2),
    sensitive=st.booleans(),
    severity=st.sampled_from(["error", "warning"]),
)
checks = some(
    min_rows=numbers,
    max_rows=numbers,
    row_count_factor=numbers,
    freshness_column=names,
    max_age_days=numbers,
    expressions=st.lists(st.fixed_dictionaries({"name": st.just("c"), "expression": conditions}), max_size=1),
    shift_threshold=numbers,
)
read = some(
    delimiter=texts,
    encoding=texts,
    decimal=texts,
    thousands=st.sampled_from([",", ".", " ", "'"]),
    null_values=st.lists(texts, max_size=3),
    date_order=st.sampled_from(["day_first", "month_first"]),
)
specs = some(
    target=names,
    seed=numbers,
    id_column=names,
    window_days=numbers,
    max_training_rows=numbers,
    max_quarantined_share=st.sampled_from([0.0, 0.2, 1.0]),
    columns=st.dictionaries(names, columns, max_size=3),
    checks=checks,
    read=read,
    split=some(by=st.sampled_from(["random", "time", "group"]), column=names, test_share=numbers),
    sensitive_groups=st.lists(names, max_size=2),
)


def run(document: dict) -> None:
    """Validate a first and a later upload and prepare them; nothing but a result may come of it."""
    spec = ModelSpec.parse(document)
    assert ModelSpec.read_stored(spec.model_dump(mode="json")) == spec
    for schema in (None, FIRST.schema):
        found = validate_upload(TABLE, "t.csv", spec, {}, schema)
        assert not [reason for reason in found.reasons if "could not be parsed" in reason]
        if found.accepted:
            prepare(found.schema, [found.table], spec)


@settings(deadline=None, max_examples=80)
@given(specs)
def test_an_accepted_spec_gives_every_upload_its_result(document):
    try:
        ModelSpec.parse(document)
    except InvalidInputError:
        return
    run(document)


@pytest.mark.parametrize("bound", [1e308, -1e308, 1e30, -1e18, 1e12, 253_402_300_799.9])
@pytest.mark.parametrize("rule", ["minimum", "maximum"])
def test_a_range_may_be_past_every_date(rule, bound):
    run({"columns": {"day": {"type": "datetime", rule: bound}}})
    run({"columns": {"x": {rule: bound}}})


@pytest.mark.parametrize("encoding", ["cp037", "hz", "utf-7", "iso2022_jp", "utf-32", "latin-1"])
def test_an_encoding_of_text_reads_or_is_refused(encoding):
    run({"read": {"encoding": encoding}})


@pytest.mark.parametrize("delimiter", ["\0", "\n", "\r", '"', "é", "1", "\\", "\N{GRINNING FACE}"])
def test_any_delimiter_gives_a_result(delimiter):
    run({"read": {"delimiter": delimiter}})


@pytest.mark.parametrize(
    "condition",
    ["day > 'x'", "n / 0 > x", "not kind", "kind == note", "-day < 1", "day - day > 1", "n > 1e299 * 1e299"],
)
def test_a_condition_that_the_types_do_not_allow_is_reported(condition):
    run({"checks": {"expressions": [{"name": "c", "expression": condition}]}})


@pytest.mark.parametrize(
    ("field", "document"),
    [
        ("seed", {"seed": 10**300}),
        ("seed", {"seed": 2**32}),
        ("window_days", {"window_days": 10**300}),
        ("retention.run_days", {"retention": {"run_days": 10**10}}),
        ("checks.max_age_days", {"checks": {"freshness_column": "day", "max_age_days": 1e300}}),
        ("gate.floors.auc", {"gate": {"floors": {"auc": float("nan")}}}),
        *[
            ("read.encoding", {"read": {"encoding": name}})
            for name in ["zlib", "bz2", "hex", "base64", "rot13", "undefined", "punycode", "uu"]
        ],
        *[
            ("columns.d.formats.0", {"columns": {"d": {"formats": [form]}}})
            for form in ["%Y%Y", "%Z%z", "%U%W%j", "%f%f", "%Y%", "%c", "x"]
        ],
        ("checks.expressions.0.expression", {"checks": {"expressions": [{"name": "c", "expression": "1 == 2"}]}}),
    ],
)
def test_what_no_run_can_use_is_refused_and_left_out_of_a_stored_spec(field, document):
    with pytest.raises(InvalidInputError) as caught:
        ModelSpec.parse(document)
    assert [fault.field for fault in caught.value.fields] == [field]
    stored = ModelSpec.read_stored(document | {"target": "label"})
    assert stored.target == "label"
    assert ModelSpec.parse(stored.model_dump(mode="json")) == stored


def test_half_a_character_is_refused():
    with pytest.raises(InvalidInputError, match="surrogate"):
        ModelSpec.parse({"target": "\ud800"})


pieces = st.sampled_from(
    [
        *"ab.^$|()[]{}*+?\\-,:=!<>P#1230 é",
        r"\d",
        r"\w",
        r"\s",
        r"\b",
        r"\A",
        r"\Z",
        r"\x41",
        "(?:",
        "(?P<n>",
        "(?i)",
        "(?i:",
        "[^",
        "[a-z]",
        "[a-zé-ü]",
        "{2}",
        "{2,}",
        "{1,3}",
        "{1000}",
        "{500}",
        "{0}",
        "(?=",
        "(?#",
        "*?",
        "+?",
        "[]",
        "[^]",
        "\\[",
    ]
)


@settings(deadline=None, max_examples=600)
@given(st.one_of(st.lists(pieces, max_size=9).map("".join), st.text(max_size=12)))
@example(".{1000}" * 4)
@example(r"(?i)[^\d\sé]{1000}")
@example("(?i)" + "\u017f{1000}" * 4)
def test_re2_compiles_every_accepted_pattern(pattern):
    try:
        check_pattern(pattern)
    except ValueError:
        return
    pc.match_substring_regex(pa.array(["a", "b\n"]), rf"\A(?:{pattern})\z")


REFUSED = r"""a\Z|\u1234
(?x)a|(?a)a|(?u)a|(?#c)a|\N{DIGIT ONE}|a{1001}|(a{100}){100}|x{4294967296}|(?=a)|(?!a)|(?<=a)b|(a)\1
(?>a)|a++|a{,3}|[[:alpha:]]|(?P<n>a)(?P=n)|(?(1)a)|[\b]|\0|\077|(?i-s:a)|)|["""


@pytest.mark.parametrize(
    "pattern", [*REFUSED.replace("\n", "|").split("|"), "(" * 499 + ")" * 499, "\ud800", "\\U0001F600"]
)
def test_patterns_that_re2_reads_otherwise_are_refused(pattern):
    with pytest.raises(ValueError, match=r"not supported|nests more|repeats too often|no regular|not a regular"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [r"[^@]+@[^@]+", r"(?i)ab", r"[A-Za-z0-9_-]{1,255}", r"[]a]", r"a{b}", r"(?P<n>x+?)y", r"[\w.-]+", "", r"\$1"],
)
def test_usual_patterns_are_accepted(pattern):
    assert check_pattern(pattern) == pattern


directives = st.lists(
    st.sampled_from(["%" + letter for letter in "aAwdbBmyYHIpMSfzZjUWcxXGuV%"]), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=300)
@given(directives.map(" ".join))
def test_pandas_reads_every_accepted_date_format(form):
    try:
        ColumnSpec(formats=(form,))
    except ValueError:
        return
    pd.to_datetime(pd.Series(["x"], dtype=object), format=form, errors="coerce", utc=True)
