"""Mutants: wrong programs made from right ones, by changing one operator, one constant or one branch."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

MutantKind = Literal["operator", "off by one", "dropped branch"]
KINDS: Final[tuple[MutantKind, ...]] = ("operator", "off by one", "dropped branch")
_SWAPPED: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}  # fmt: skip


class Mutant(NamedTuple):
    """Mutant is a program with one change."""

    kind: MutantKind
    line: int
    source: str


def make_mutants(source: str, each: int) -> list[Mutant]:
    """Return up to `each` mutants of every kind; always the same ones.

    Where a kind has too few, there are more of the others.
    """
    rng = random.Random(source)
    sites = {kind: [place for place, other in _find_sites(ast.parse(source)) if other == kind] for kind in KINDS}
    for places in sites.values():
        rng.shuffle(places)
    chosen = [(kind, place) for kind in KINDS for place in sites[kind][:each]]
    more = [(kind, place) for kind in KINDS for place in sites[kind][each:]]
    chosen += more[: max(0, each * len(KINDS) - len(chosen))]
    changed = [_make_mutant(source, kind, place) for kind, place in chosen]
    return list(
        {mutant.source: mutant for mutant in changed if mutant.source != ast.unparse(ast.parse(source))}.values()
    )


def _find_sites(tree: ast.Module) -> Iterator[tuple[int, MutantKind]]:
    """Yield places, counted in the order of `ast.walk`, in all functions but `run`."""
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    excluded = {id(node) for node in ast.walk(run)}
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in excluded:
            continue
        match node:
            case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if type(node.op) in _SWAPPED:
                yield place, "operator"
            case ast.Compare(ops=[one]) if type(one) in _SWAPPED:
                yield place, "operator"
            case ast.Constant(value=int(value)) if not isinstance(value, bool):
                yield place, "off by one"
            case ast.If() | ast.IfExp():
                yield place, "dropped branch"


def _make_mutant(source: str, kind: MutantKind, place: int) -> Mutant:
    tree = ast.parse(source)
    node = list(ast.walk(tree))[place]
    match node:
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            node.op = _SWAPPED[type(node.op)]()  # type: ignore[assignment]
        case ast.Compare():
            node.ops = [_SWAPPED[type(node.ops[0])]()]  # type: ignore[list-item]
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.If() | ast.IfExp():
            node.test = ast.Constant(False)
        case _:
            raise AssertionError(node)
    return Mutant(kind, getattr(node, "lineno", 0), ast.unparse(ast.fix_missing_locations(tree)))
