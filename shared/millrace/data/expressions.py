"""Conditions over several columns, such as ``start <= end and (amount > 0 or kind == 'refund')``.

An expression is parsed by Python's own parser and turned into calls of ``pyarrow.compute``; only what stands in
:data:`_COMPARISONS`, :data:`_ARITHMETIC` and beside them is understood, and nothing is ever evaluated as code. A column
whose name is no word is written ``column('first name')``. Where a value is missing the condition is unknown, and
unknown is no failure (as in SQL's CHECK).
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import listed
from millrace.errors import InvalidInputError

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}
_MAX_DEPTH = 50

Columns = Mapping[str, pa.Array]


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition that was understood.

    Parameters
    ----------
    text : str
        As it was written.
    columns : frozenset of str
        The columns it speaks of.
    """

    text: str
    columns: frozenset[str]
    _tree: ast.expr

    def failures(self, columns: Columns) -> pa.Array:
        """Tell which rows do not meet it; null where that is not known.

        Raises
        ------
        InvalidInputError
            When it compares what cannot be compared.
        """
        try:
            met = _evaluate(self._tree, columns)
            return pc.invert(met)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, TypeError, AttributeError) as fault:
            raise InvalidInputError(f"the expression {self.text!r} cannot be computed: {fault}") from fault


def parse_expression(text: str) -> Expression:
    """Understand an expression.

    Raises
    ------
    InvalidInputError
        When it is none, with what is not understood.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        raise InvalidInputError(f"{text!r} is no expression: {fault}") from fault
    names: set[str] = set()
    _check(tree, text, names, 0)
    if not isinstance(tree, ast.Compare | ast.BoolOp | ast.Name | ast.Call) and not (
        isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    ):
        raise InvalidInputError(f"{text!r} is no condition: compare something")
    return Expression(text, frozenset(names), tree)


def _check(node: ast.expr, text: str, names: set[str], depth: int) -> None:
    """Refuse whatever is not part of the grammar, before anything is computed."""
    if depth > _MAX_DEPTH:
        raise InvalidInputError(f"{text[:80]!r} is nested too deeply")
    name = _column_name(node)
    if name is not None:
        names.add(name)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        return
    parts: list[ast.expr] | None = None
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        parts = [node.operand]
    if parts is None:
        raise InvalidInputError(f"{text!r}: {ast.unparse(node)!r} is not understood")
    for part in parts:
        _check(part, text, names, depth + 1)


def _column_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
        argument = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return argument.value
    return None


def _evaluate(node: ast.expr, columns: Columns) -> Any:
    name = _column_name(node)
    if name is not None:
        return _column(name, columns)
    if isinstance(node, ast.Constant):
        return pa.scalar(float(node.value) if type(node.value) is int else node.value)
    if isinstance(node, ast.Compare):
        return _evaluate_comparison(node, columns)
    if isinstance(node, ast.BoolOp):
        combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        result = _evaluate(node.values[0], columns)
        for value in node.values[1:]:
            result = combine(result, _evaluate(value, columns))
        return result
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_evaluate(node.left, columns), _evaluate(node.right, columns))
    if isinstance(node, ast.UnaryOp):
        return (pc.invert if isinstance(node.op, ast.Not) else pc.negate)(_evaluate(node.operand, columns))
    raise InvalidInputError(f"{ast.unparse(node)!r} is not understood")


def _evaluate_comparison(node: ast.Compare, columns: Columns) -> Any:
    left = _evaluate(node.left, columns)
    result = None
    for operator, following in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(following, columns)
        met = _COMPARISONS[type(operator)](*_alike(left, right))
        result = met if result is None else pc.and_kleene(result, met)
        left = right
    return result


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Read text as a date where it is compared with one."""
    if pa.types.is_timestamp(left.type) and pa.types.is_string(right.type):
        return left, _moment(right, left.type)
    if pa.types.is_timestamp(right.type) and pa.types.is_string(left.type):
        return _moment(left, right.type), right
    return left, right


def _moment(text: Any, kind: pa.DataType) -> Any:
    if not isinstance(text, pa.Scalar):
        raise TypeError("dates are compared with dates, or with a date in quotes")
    try:
        moment = datetime.fromisoformat(text.as_py())
    except ValueError as fault:
        raise TypeError(f"{text.as_py()!r} is no date such as 2024-01-31") from fault
    return pa.scalar(moment.replace(tzinfo=None), pa.timestamp("us")).cast(kind)


def _column(name: str, columns: Columns) -> pa.Array:
    if name not in columns:
        raise InvalidInputError(f"there is no column {name!r}; the columns are {listed(list(columns))}")
    stored = columns[name]
    return stored.cast(pa.string()) if pa.types.is_dictionary(stored.type) else stored
