"""The shim for names that NumPy 1.24 and 2 removed, in expressions and in a bundle's own modules.

NumPy itself is left alone: a text or a module of the bundle is read with the present name in the old one's place.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volseg.bundle.shims.shim import Bundled
    from volseg.planning.component import ConfigValue

PRESENT = {
    # Other names of Python's own types (NumPy 1.24 release notes, expired deprecations).
    "int": "int", "float": "float", "complex": "complex", "object": "object", "str": "str", "unicode": "str",
    # The migration guide of NumPy 2.0, its table of removed members.
    "bool8": "np.bool_", "float_": "np.float64", "complex_": "np.complex128", "singlecomplex": "np.complex64",
    "cfloat": "np.complex128", "longfloat": "np.longdouble", "clongfloat": "np.clongdouble",
    "longcomplex": "np.clongdouble", "string_": "np.bytes_", "unicode_": "np.str_", "object0": "np.object_",
    "int0": "np.intp", "uint0": "np.uintp", "str0": "np.str_", "bytes0": "np.bytes_", "void0": "np.void",
    "Inf": "np.inf", "Infinity": "np.inf", "infty": "np.inf", "PINF": "np.inf", "NINF": "-np.inf", "NaN": "np.nan",
    "PZERO": "0.0", "NZERO": "-0.0", "mat": "np.asmatrix", "round_": "np.round", "product": "np.prod",
    "cumproduct": "np.cumprod", "sometrue": "np.any", "alltrue": "np.all", "row_stack": "np.vstack",
    "in1d": "np.isin", "trapz": "np.trapezoid",
}  # fmt: skip
"""Each removed name and the expression that says the same; ``np`` stands for the name that the module has there."""
IN_TEXT = re.compile(rf"\b(np|numpy)\.({'|'.join(PRESENT)})\b(?!\s*\.)")


@dataclass(frozen=True)
class NumpyNames:
    """A removed name of NumPy in an expression."""

    name: str = "numpy-names"
    sentence: str = "NumPy has removed a name that stands here; what it stood for is put in its place"

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether an expression holds one that this NumPy lacks."""
        del bundled
        return isinstance(node, str) and node.startswith("$") and any(_is_gone(f[2]) for f in IN_TEXT.finditer(node))

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The expression with present names."""
        assert isinstance(node, str)
        return IN_TEXT.sub(lambda f: _in_place(f[1], f[2]) if _is_gone(f[2]) else f[0], node)


def mend_module(tree: ast.Module) -> tuple[str, ...]:
    """Put present names for the removed ones of NumPy into the syntax of a bundle's own module; gives which."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "numpy"
    }
    mender = _Mender(names)
    mender.visit(tree)
    ast.fix_missing_locations(tree)
    return tuple(sorted(mender.found))


class _Mender(ast.NodeTransformer):
    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.found: set[str] = set()

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        is_numpy = isinstance(node.value, ast.Name) and node.value.id in self.names
        if not is_numpy or node.attr not in PRESENT or not isinstance(node.ctx, ast.Load) or not _is_gone(node.attr):
            return node
        assert isinstance(node.value, ast.Name)
        self.found.add(node.attr)
        present = ast.parse(_in_place(node.value.id, node.attr), mode="eval").body
        return ast.copy_location(present, node)


def _in_place(module: str, name: str) -> str:
    present = re.sub(r"\bnp\.", f"{module}.", PRESENT[name])
    return f"({present})" if present.startswith("-") else present


def _is_gone(name: str) -> bool:
    import numpy as np

    return name not in vars(np)  # asking for one warns
