from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.mathematics import Mathematics, expression_of
from colllm_ray.evaluation.metrics.verifier import Verifier


@pytest.fixture(scope="module")
def mathematics() -> Mathematics:
    return Mathematics()


EQUIVALENT = [
    (r"\frac{1}{2}", "0.5"),
    (r"\frac{1}{2}", "1/2"),
    (r"\dfrac12", r"\frac{1}{2}"),
    ("x+1", "1+x"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("1,000", "1000"),
    (r"90^\circ", "90"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\$18", "18"),
    ("(1,2)", r"\left( 1, 2 \right)"),
    (r"\{1,2\}", "2,1"),
    (r"[0,\infty)", r"\left[0,\infty\right)"),
    ("5", "x=5"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    (r"5\text{ cm}", "5"),
    (r"\text{(A)}", "A"),
    (r"\cot x", r"\frac{1}{\tan x}"),
    (r"\binom{5}{2}", "10"),
    ("5!", "120"),
    ("1+2i", "2i+1"),
    ("y = 2x+3", "y=3+2x"),
    ("2520", "2520."),
    # small numbers
    (r"\frac{1}{2005!}", r"\frac{1}{2005 \cdot 2004!}"),
    (r"\frac{1}{20!}", r"\frac{1}{2432902008176640000}"),
    ("0.0000001", "10^{-7}"),
    (r"\frac{1}{24}", "0.041667"),
    (r"\frac13", "0.333333"),
    (r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}"),
    (r"50\%", "0.5"),
    (r"50\%", "50"),
]
DIFFERENT = [
    ("1", "2"),
    (r"\frac12", r"\frac13"),
    ("x", "y"),
    ("x+1", "x-1"),
    ("(1,2)", "(2,1)"),
    ("[1,2]", "(1,2)"),
    (r"\sqrt2", "1.41"),
    (r"\pi", "3.14"),
    (r"\text{Evelyn}", r"\text{Angela}"),
    ("1,2", "1,2,3"),
    ("-5", "5"),
    ("x<3", r"x\le 3"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    ("10", "100"),
    ("A", "B"),
    ("2^{10}", "1023"),
    ("12", "1,2"),
    (r"(3, \frac{\pi}{2})", r"(3, \pi)"),
    # small numbers, and small differences
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"x = \frac{1}{2004!}", r"x = \frac{1}{2006!}"),
    (r"\{1, \frac{1}{2004!}\}", r"\{1, \frac{1}{2006!}\}"),
    ("x < 10^{-20}", "x < 10^{-21}"),
    ("2^{-100}", "2^{-101}"),
    ("e^{-50}", "e^{-51}"),
    (r"1-\frac{1}{2^{100}}", r"1-\frac{1}{2^{99}}"),
    (r"\sqrt{3}+10^{-20}", r"\sqrt{3}"),
    ("0.0000001", "0.0000002"),
    (r"1.6 \times 10^{-19}", r"1.7 \times 10^{-19}"),
]


@pytest.mark.parametrize(("reference", "answer"), EQUIVALENT)
def test_expressions_of_one_value_are_equivalent(reference: str, answer: str, mathematics: Mathematics) -> None:
    mathematics.check(rf"so \boxed{{{reference}}}")
    assert mathematics.score(rf"We find \boxed{{{answer}}}.", rf"so \boxed{{{reference}}}") == 1.0


@pytest.mark.parametrize(("reference", "answer"), DIFFERENT)
def test_expressions_of_other_values_are_not(reference: str, answer: str, mathematics: Mathematics) -> None:
    assert mathematics.score(rf"We find \boxed{{{answer}}}.", reference) == 0.0


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (r"\boxed{1}, no: $\boxed{ \frac{1}{2} }$.", r"\frac{1}{2}"),
        (r"\boxed{\left\{ 1 \right\}}", r"\left\{ 1 \right\}"),
        (r"\boxed{18} and \boxed{unfinish", "18"),
        (r"\boxed{\frac{1", None),
        (r"\fbox{3}", "3"),
        (r"Thus, $\boxed 5$ apples.", "5"),
        (r"\boxed\frac12", r"\frac12"),
        ("**Answer:** $x = 5$\n\nCheck: $2x = 10$.", "x = 5"),
        ("The answer is **18**.", "18"),
        ("The final answer is $x = 5$. I hope it is correct.", "x = 5"),
        (r"The answer is \(\frac12\)", r"\frac12"),
        ("The answer is 5!", "5!"),
        (r" $\frac{1}{2}$ ", r"\frac{1}{2}"),
        ("18.", "18"),
        ("", None),
        (r"\boxed{}", None),
        ("so " * 500, None),
    ],
)
def test_the_expression_of_a_text_is_found(text: str, expression: str | None) -> None:
    assert expression_of(text) == expression


def test_a_reference_may_be_a_number(mathematics: Mathematics) -> None:
    assert mathematics.score(r"\boxed{\frac{36}{2}}", 18) == mathematics.score(r"\boxed{18}", 18.0) == 1.0


@pytest.mark.parametrize("reference", ["", r"\boxed{}", r"\boxed{1", None, True, ["1"]])
def test_a_reference_without_an_expression_is_refused(reference: object, mathematics: Mathematics) -> None:
    with pytest.raises(ColllmError, match=r"a solution with \\boxed\{..\}, or the bare answer, is right"):
        mathematics.check(reference)


def test_any_thread_may_ask(mathematics: Mathematics) -> None:
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda i: mathematics.score(rf"\boxed{{{2 * i}/2}}", i % 3), range(6)))
    assert scores == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_an_endless_computation_is_given_up() -> None:
    verifier = Verifier(seconds=1.0)
    assert not verifier.equivalent("1", "12345678^{87654321}")
    assert verifier.equivalent("1/2", "0.5")


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    verifier = Verifier()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="verifier_process ended with status 1; it wrote why"):
            verifier.equivalent("1", "1")


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ColllmError, match=r"pip install 'colllm-ray\[eval\]'"):
        Mathematics()
