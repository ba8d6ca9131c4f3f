"""The comparison of numbers in Math-Verify, made exact for small ones."""

from __future__ import annotations

from itertools import product

from math_verify import grader
from sympy import Expr, Float, MatrixBase

SIGNIFICANT = 5e-4  # of the larger one: half a unit of the fourth digit

_within_decimals = grader.sympy_numeric_eq


def compare_exactly() -> None:
    """Let Math-Verify compare numbers by `equal`, also those within sets, tuples, matrices and relations.

    Its own comparison rounds to so many decimals, which makes 1/2004! and 1/2006! equal.
    """
    grader.sympy_numeric_eq = equal


def equal(one: Expr | MatrixBase, other: Expr | MatrixBase, float_rounding: int, numeric_precision: int) -> bool:
    """Return whether both are equal for Math-Verify, and their difference is not known to be other than 0."""
    if not _within_decimals(one, other, float_rounding, numeric_precision):
        return False
    if not (isinstance(one, Expr) and isinstance(other, Expr)):
        return True  # elements of matrices have been compared one by one
    return any(not _differ(x, y) for x, y in product(_readings(one), _readings(other)))


def _readings(number: Expr) -> list[Expr]:
    """Return the values that a number may have: 50% is 0.5 and, for Math-Verify, 50."""
    bare = grader.get_pct_val(number)
    return [number.doit()] if bare is None else [number.doit(), bare.doit()]


def _differ(one: Expr, other: Expr) -> bool:
    difference = one - other  # x - 1/2004! and x - 1/2006! differ by a number too
    if difference.free_symbols:
        return False
    if difference.has(Float):
        return bool(abs(difference).evalf() > SIGNIFICANT * max(abs(one).evalf(), abs(other).evalf()))
    return any(part.is_comparable and part != 0 for part in difference.as_real_imag())
