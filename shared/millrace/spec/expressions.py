"""Conditions over several columns, parsed: columns and literals, compared, combined and computed with.

They are parsed by Python's own parser, and checked against the grammar before anything is computed; nothing is ever
evaluated as code. A column whose name is no identifier is written ``column('first name')``.
"""

import ast
import re
from dataclasses import dataclass
from typing import Literal

from millrace.errors import InvalidInputError

_COMPARED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_COMPUTED = (ast.Add, ast.Sub, ast.Mult, ast.Div)
_MAX_DEPTH = 50
_SURROGATES = re.compile("[\ud800-\udfff]")

#: Type of a part; that of a column is known when there is a table.
_Kind = Literal["condition", "number", "text", "column"]


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed condition, and the columns that it uses."""

    text: str
    columns: frozenset[str]
    tree: ast.expr


def parse_expression(text: str) -> Expression:
    """Parse a condition; raises ``InvalidInputError``, which names the part that is not supported."""
    try:
        text.encode()
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        raise InvalidInputError(f"{text!r} is not a valid expression: {fault}") from fault
    names: set[str] = set()
    if _check(tree, text, names, 0) not in ("condition", "column") or isinstance(tree, ast.Constant):
        raise InvalidInputError(f"{text!r} is not a condition: compare something")
    if not names:
        raise InvalidInputError(f"{text!r} names no column: it would hold for every row, or for none")
    return Expression(text, frozenset(names), tree)


def _check(node: ast.expr, text: str, names: set[str], depth: int) -> _Kind:
    """Return the type of a part; reject what is not part of the grammar, or can never be computed."""
    if depth > _MAX_DEPTH:
        raise InvalidInputError(f"{text[:80]!r} is nested too deeply")
    name = column_name(node)
    if name is not None:
        names.add(name)
        return "column"
    if isinstance(node, ast.Constant):
        return _check_literal(node, text)
    parts, allowed, kind = _grammar(node)
    if not parts:
        raise InvalidInputError(f"{text!r}: {ast.unparse(node)!r} is not supported")
    found = {_check(part, text, names, depth + 1) for part in parts}
    if not found <= set(allowed) or len(found - {"column"}) > 1:
        raise InvalidInputError(f"{text!r}: {ast.unparse(node)!r} can never be computed: its parts are of other types")
    return kind


def _grammar(node: ast.expr) -> tuple[list[ast.expr], tuple[_Kind, ...], _Kind]:
    """Return the parts of a node, the types that they may have, and its own; no parts where it is not supported."""
    if isinstance(node, ast.Compare) and all(isinstance(operator, _COMPARED) for operator in node.ops):
        return [node.left, *node.comparators], ("condition", "number", "text", "column"), "condition"
    if isinstance(node, ast.BoolOp):
        return node.values, ("condition", "column"), "condition"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand], ("condition", "column"), "condition"
    if isinstance(node, ast.BinOp) and isinstance(node.op, _COMPUTED):
        return [node.left, node.right], ("number", "column"), "number"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return [node.operand], ("number", "column"), "number"
    return [], (), "condition"


def _check_literal(node: ast.Constant, text: str) -> _Kind:
    if isinstance(node.value, bool):
        return "condition"
    if isinstance(node.value, int | float) and abs(node.value) < 1e300:  # noqa: PLR2004  # far from infinity
        return "number"
    if isinstance(node.value, str) and not _SURROGATES.search(node.value):
        return "text"
    raise InvalidInputError(f"{text[:80]!r}: {str(ast.unparse(node))[:40]} is not supported")


def column_name(node: ast.expr) -> str | None:
    """Return the column that a part stands for, if it is one."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
        argument = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return argument.value
    return None
