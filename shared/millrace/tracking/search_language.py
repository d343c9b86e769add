"""MLflow's search language: a filter of comparisons that are joined by AND, and clauses of order.

    metrics.accuracy > 0.9 AND params.`max depth` = '5' AND tags.team LIKE 'a%' AND run_id IN ('1', '2')

A :class:`Grammar` says what the entities of one search have; the caller gets the values.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar

from millrace.errors import FieldError, InvalidInputError

EntityKind = Literal["attribute", "metric", "parameter", "tag", "dataset"]
#: Returns the value of an entity's attribute, metric, ..., or None.
GetValue = Callable[[Any, EntityKind, str], Any]
FoundT = TypeVar("FoundT")

ORDERED = ("=", "!=", "<", "<=", ">", ">=")
TEXTUAL = ("=", "!=", "LIKE", "ILIKE")
LISTED = ("IN", "NOT IN")
PRESENCE = ("IS NULL", "IS NOT NULL")

_RUNS_KINDS: Mapping[str, EntityKind] = {
    "attribute": "attribute",
    "attributes": "attribute",
    "attr": "attribute",
    "run": "attribute",
    "metric": "metric",
    "metrics": "metric",
    "parameter": "parameter",
    "parameters": "parameter",
    "param": "parameter",
    "params": "parameter",
    "tag": "tag",
    "tags": "tag",
    "dataset": "dataset",
    "datasets": "dataset",
}


@dataclass(frozen=True)
class Grammar:
    """Attributes and other parts of the entities of one search, and those that it may compare and order by."""

    texts: frozenset[str]  # attributes that are texts
    numbers: frozenset[str] = frozenset()  # attributes that are whole numbers
    kinds: Mapping[str, EntityKind] = field(default_factory=lambda: _RUNS_KINDS)
    #: Attributes whose values may be compared with a list; of other kinds, those in ``listed_kinds``.
    listed: frozenset[str] = frozenset()
    listed_kinds: frozenset[EntityKind] = frozenset({"dataset"})
    ordered_by: frozenset[str] = frozenset()  # attributes
    ordered_by_kinds: frozenset[EntityKind] = frozenset({"metric", "parameter", "tag"})
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names of attributes
    presence: frozenset[EntityKind] = frozenset({"parameter", "tag"})  # kinds that may be compared with NULL
    dataset_keys: frozenset[str] = frozenset({"name", "digest", "context"})


class FilterComparison(NamedTuple):
    """One comparison of a filter."""

    kind: EntityKind
    key: str
    operator: str
    value: Any

    def holds(self, value: Any) -> bool:
        """Return whether a value compares so; one that is missing or no number only compares with NULL."""
        if self.operator in PRESENCE:
            return (value is None) == (self.operator == "IS NULL")
        if value is None or value != value:  # noqa: PLR0124 - true of NaN alone
            return False
        if self.operator in ("LIKE", "ILIKE"):
            return _pattern(self.value, self.operator == "ILIKE").fullmatch(str(value)) is not None
        if self.operator in LISTED:
            return (str(value) in self.value) == (self.operator == "IN")
        return bool(_COMPARE[self.operator](value, self.value))


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Order(NamedTuple):
    """One clause of an order."""

    kind: EntityKind
    key: str
    descending: bool = False


@lru_cache(256)
def _pattern(like: str, ignore_case: bool) -> re.Pattern[str]:
    """Return a pattern whose time grows with the text's length alone: each part takes its first place for good."""
    text, *rest = ("".join("." if sign == "_" else re.escape(sign) for sign in part) for part in like.split("%"))
    if rest:
        *middle, last = rest
        text += "".join(f"(?>.*?{part})" for part in middle) + f".*{last}"
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<identifier>(?:[A-Za-z_][\w-]*\.)?(?:`[^`]*`|"[^"]*"|[A-Za-z_][\w./-]*))
    | (?P<text>'[^']*(?:''[^']*)*')
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<operator><=|>=|!=|<>|==|=|<|>)
    | (?P<sign>[(),])
    )""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"AND", "LIKE", "ILIKE", "IN", "NOT", "IS", "NULL"})
#: Longer ones are refused before they cost time.
_MAX_FILTER = 20_000


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def keyword(self) -> str:
        """The token as a keyword of the language, or nothing."""
        upper = self.text.upper()
        return upper if self.kind == "identifier" and upper in _KEYWORDS else ""


_END = _Token("end", "")


def _fail(message: str) -> InvalidInputError:
    return InvalidInputError(message, [FieldError("filter", message)])


def _tokens(text: str) -> list[_Token]:
    if len(text) > _MAX_FILTER:
        raise _fail(f"Invalid filter: it is longer than {_MAX_FILTER} characters")
    text = text.rstrip().rstrip(";").rstrip()
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _fail(f"Invalid clause(s) in filter string: {text[position : position + 80]!r}")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind]))
        position = match.end()
    return found


def parse_filter(text: str | None, grammar: Grammar) -> list[FilterComparison]:
    """Return the comparisons of a filter; raises ``InvalidInputError``, with MLflow's wording where clients know it."""
    tokens = _tokens(text or "")
    comparisons: list[FilterComparison] = []
    position = 0
    while position < len(tokens):
        if comparisons:
            if tokens[position].keyword != "AND" or position + 1 == len(tokens):
                raise _fail(f"Invalid clause(s) in filter string: {tokens[position].text!r}")
            position += 1
        comparison, position = _parse_comparison(tokens, position, grammar)
        comparisons.append(comparison)
    return comparisons


def _parse_comparison(tokens: Sequence[_Token], position: int, grammar: Grammar) -> tuple[FilterComparison, int]:
    def at(offset: int) -> _Token:
        return tokens[position + offset] if position + offset < len(tokens) else _END

    if at(0).kind != "identifier" or at(0).keyword:
        raise _fail(f"Invalid clause(s) in filter string: {at(0).text!r}")
    kind, key = _read_identifier(at(0).text, grammar, grammar.texts | grammar.numbers)
    keywords = [at(offset).keyword for offset in (1, 2, 3)]
    if keywords[0] == "IS" and (keywords[1] == "NULL" or keywords[1:] == ["NOT", "NULL"]):
        if kind not in grammar.presence:
            raise _fail(f"IS NULL / IS NOT NULL is only supported for tags and params, not for '{kind}' '{key}'")
        is_null = keywords[1] == "NULL"
        return FilterComparison(kind, key, "IS NULL" if is_null else "IS NOT NULL", None), position + (
            3 if is_null else 4
        )
    if keywords[:2] == ["NOT", "IN"]:
        name, length = "NOT IN", 3
    else:
        name, length = keywords[0] or at(1).text, 2
    if at(1).kind != "operator" and name not in (*TEXTUAL, *LISTED):
        raise _fail(f"Invalid clause(s) in filter string: {at(0).text} {at(1).text}".rstrip())
    if at(length) is _END:
        raise _fail(f"Invalid clause(s) in filter string: {at(0).text} {name}")
    _check_operator(kind, key, name, grammar)
    if name in LISTED:
        values, length = _read_list(tokens, position, length)
        return FilterComparison(kind, key, name, values), position + length
    return FilterComparison(kind, key, name, _read_value(at(length), kind, key, grammar)), position + length + 1


def _check_operator(kind: EntityKind, key: str, name: str, grammar: Grammar) -> None:
    is_number = kind == "metric" or (kind == "attribute" and key in grammar.numbers)
    allowed = ORDERED if is_number else TEXTUAL
    if name in LISTED and not is_number:
        if not (key in grammar.listed if kind == "attribute" else kind in grammar.listed_kinds):
            listed = ", ".join(sorted(grammar.listed)) or "no"
            raise _fail(f"Only {listed} attributes support comparison with a list of quoted string values.")
    elif name not in allowed:
        raise _fail(f"Invalid comparator '{name}' not one of {allowed}")


def _read_list(tokens: Sequence[_Token], position: int, length: int) -> tuple[frozenset[str], int]:
    found, offset = list[str](), length
    rest = tokens[position + length :]
    if not rest or rest[0].text != "(":
        raise _fail("While parsing a list in the query, expected a non-empty list of string values")
    for token in rest[1:]:
        offset += 1
        if token.text == ")":
            break
        if token.kind == "text" or (token.kind == "identifier" and token.text[0] == '"'):
            found.append(token.text[1:-1])
        elif token.text != ",":
            raise _fail("While parsing a list in the query, expected string value, punctuation, or whitespace")
    else:
        raise _fail(
            "While parsing a list in the query, expected a non-empty list of string values, but got ill-formed list"
        )
    if not found:
        raise _fail("While parsing a list in the query, expected a non-empty list of string values, but got empty list")
    return frozenset(found), offset + 1


def _read_value(token: _Token, kind: EntityKind, key: str, grammar: Grammar) -> Any:
    if kind == "metric" or (kind == "attribute" and key in grammar.numbers):
        if token.kind != "number":
            what = "metric" if kind == "metric" else f"numeric attribute: {key}"
            raise _fail(f"Expected numeric value type for {what}. Found {token.text}")
        return float(token.text)
    if token.kind == "text" or (token.kind == "identifier" and token.text[0] == '"'):
        return token.text[1:-1]
    what = "attributes" if kind == "attribute" else f"{kind} (e.g. 'my-value')"
    if token.kind == "identifier":
        raise _fail(
            f"Parameter value is either not quoted or unidentified quote types used for string value {token.text}. "
            "Use either single or double quotes."
        )
    raise _fail(f"Expected a quoted string value for {what}. Got value {token.text}")


def _read_identifier(text: str, grammar: Grammar, attributes: frozenset[str]) -> tuple[EntityKind, str]:
    prefix, dot, rest = ("", "", text) if text[0] in '`"' else text.partition(".")
    if not dot:
        kind: EntityKind = "attribute"
        key = _unquote(text)
    elif prefix in grammar.kinds:
        kind, key = grammar.kinds[prefix], _unquote(rest)
    else:
        raise _fail(f"Invalid entity type '{prefix}'. Valid values are {sorted(set(grammar.kinds.values()))}")
    if kind == "attribute":
        key = grammar.aliases.get(key, key)
        if key not in attributes:
            raise _fail(f"Invalid attribute key '{key}' specified. Valid keys are {sorted(attributes)}")
    if kind == "dataset" and key not in grammar.dataset_keys:
        raise _fail(f"Invalid dataset key '{key}' specified. Valid keys are {sorted(grammar.dataset_keys)}")
    return kind, key


def _unquote(key: str) -> str:
    return key[1:-1] if len(key) > 1 and key[0] in '`"' and key[-1] == key[0] else key


_ORDER = re.compile(r"\s*(?P<identifier>(?:[^\s`\"]|`[^`]*`|\"[^\"]*\")+)(?:\s+(?P<direction>\w+))?\s*")


def parse_order(clauses: Iterable[Any], grammar: Grammar) -> list[Order]:
    """Return the clauses of an order; raises ``InvalidInputError``."""
    orders: list[Order] = []
    for clause in clauses:
        match = _ORDER.fullmatch(clause) if isinstance(clause, str) else None
        if match is None:
            raise _fail(f"Invalid order_by clause '{clause}'. Could not be parsed.")
        direction = (match["direction"] or "ASC").upper()
        if direction not in ("ASC", "DESC"):
            raise _fail(f"Invalid ordering key in order_by clause '{clause}'.")
        kind, key = _read_identifier(match["identifier"], grammar, grammar.ordered_by)
        if kind != "attribute" and kind not in grammar.ordered_by_kinds:
            raise _fail(f"Invalid order_by entity type '{kind}'")
        if any((kind, key) == (order.kind, order.key) for order in orders):
            raise _fail(f"`order_by` contains duplicate fields: {list(clauses)}")
        orders.append(Order(kind, key, direction == "DESC"))
    return orders


def select_found(
    entities: Iterable[FoundT], comparisons: Sequence[FilterComparison], get: GetValue
) -> Iterable[FoundT]:
    """Yield the entities for which every comparison holds."""
    for entity in entities:
        if all(one.holds(get(entity, one.kind, one.key)) for one in comparisons):
            yield entity


def sort_found(entities: Iterable[FoundT], orders: Sequence[Order], get: GetValue) -> list[FoundT]:
    """Return entities in an order, and where it leaves them equal as they came.

    Missing values come last in both directions, NaN before them.
    """
    found = list(entities)
    for order in reversed(orders):
        keyed = [(get(entity, order.kind, order.key), entity) for entity in found]
        present = [(value, entity) for value, entity in keyed if _rank(value) == 0]
        present.sort(key=lambda pair: pair[0], reverse=order.descending)
        late = sorted((pair for pair in keyed if _rank(pair[0])), key=lambda pair: _rank(pair[0]))
        found = [entity for _, entity in (*present, *late)]
    return found


def _rank(value: Any) -> int:
    """Return 0 for a value, 1 for NaN, 2 for none."""
    if value is None:
        return 2
    return int(isinstance(value, float) and math.isnan(value))
