from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.numeric import Numeric, number_of

NUMERIC = Numeric()

HARD = [
    # marks
    ("9 * 2 = <<9*2=18>>18\n#### 18", 18),
    ("#### 18\n\nQ: Next?\nA: 3\n#### 3", 18),  # a model that goes on with a question of its own
    ("#### Step 1\nWe add 4 and 5.\n#### 9", 9),
    ("**#### $1,080**", 1080),
    ("####18", 18),
    ("The answer is 18. Check: 9 * 2 = 18, and 20 is too much.", 18),
    ("First, the answer is 5? No: the final answer is: 6.", 6),
    ("The answer is 9 * 2 = 18 dollars.", 18),
    ("The answer is 15 gallons * 8 pints / gallon = 120 pints", 120),
    ("The answer is 18 = 9 * 2.", 18),
    ("The answer is 18 (as 72 / 4 = 9 * 2).", 18),
    ("The answer is (18).", 18),
    ("The answer is\n\n18", 18),
    ("The answer is unknown to 7 of us", 7),
    ("4 and 5 make 9. The answer is clear.", 9),
    (r"So she earns $\boxed{18}$ dollars after 2 days.", 18),
    (r"\boxed{18}. This is 3 more than 15.", 18),
    (r"\boxed{16}, no: \fbox{\boxed{18}} for 2", 18),
    (r"\boxed{18\text{ dollars}} in 2 days", 18),
    (r"\boxed{x_1 = 18 \, \text{m}^2} or 3", 18),
    (r"\boxed{9 \times 2 = 18} and 3", 18),
    (r"$\boxed 18$ and 3", 18),
    (r"\boxed{\text{eighteen}}, that is 18", 18),
    (r"Cut off at \boxed{18", 18),
    (r"#### 2 eggs" "\n" r"\boxed{18}", 18),
    ("#### 18. This is 3 more than 15.", 18),
    ("#### 1. Count\n16 - 7 = 9\n#### 2. Multiply\n9 * 2 = 18", 18),
    ("**Answer:** 18 dollars\n\nShe sells 9 in 2 days.", 18),
    ("### Final Answer\n\n$18$ dollars for 2 days", 18),
    ("Answer: She has 16 eggs.\nShe eats 7 of them, so she sells 9. 9 * 2 = 18", 18),
    ("The answer would be 18, in 2 days", 18),
    (r"The answer is \(18\) dollars (9 eggs at 2).", 18),
    ("9 eggs.\nShe earns **$18** in 2 days.", 18),
    ("**Step 3:** 9 * 2 = 18", 18),
    ("**3. Sell them:** 9 * 2 = 18", 18),
    # several numbers
    ("4 ducks and 5 ducks are 9 ducks", 9),
    ("1,2,3 and 4", 4),
    ("(3, 4)", 4),
    ("from 10-12", 12),
    ("10 - 5 = 5", 5),
    # commas, currencies, units, percent
    ("1,234", 1234),
    ("$1,234,567.50", Fraction("1234567.5")),
    ("1,234.", 1234),
    (r"1{,}234", 1234),
    (r"1\,234 m", 1234),
    ("€ 5", 5),
    ("US$18", 18),
    (r"\$18", 18),
    ("18dollars", 18),
    ("50%", 50),
    (r"50\%", 50),
    ("100m2", 100),
    ("$5/hour", 5),
    ("Rs.500", 500),
    ("1 000 m", 1000),
    ("1\u202f000\u202f000", 1000000),
    ("1'000", 1000),
    ("1,00,000", 100000),
    (r"1\ 000", 1000),
    ("1.000", 1),
    ("18 m^2", 18),
    (r"18\text{ cm}^{3}", 18),
    (r"18\,\mathrm{s}^{-1}", 18),
    # signs
    ("-5", -5),
    ("−5", -5),  # noqa: RUF001
    ("-$5", -5),
    ("$-5", -5),
    ("so it is **-5**", -5),
    ("x=-5", -5),
    ("f(2)-5", 5),
    # decimals
    ("18.00", 18),
    (".5", Fraction(1, 2)),
    ("0.10", Fraction(1, 10)),
    ("so...5", 5),
    ("1e3", 1000),
    ("2.5e-1", Fraction(1, 4)),
    ("1e300", 10**300),
    ("1.8 x 10^3 m", 1800),
    (r"1.8 \times 10^{-1}", Fraction(18, 100)),
    ("1.8·10⁻¹", Fraction(18, 100)),
    ("10^4", 10000),
    # fractions
    ("1/2", Fraction(1, 2)),
    ("-1/2", Fraction(-1, 2)),
    ("3 1/2", Fraction(7, 2)),
    ("-3 1/2 hours", Fraction(-7, 2)),
    (r"\frac{1}{2}", Fraction(1, 2)),
    (r"-\dfrac{1}{2}", Fraction(-1, 2)),
    (r"3\frac{1}{2}", Fraction(7, 2)),
    ("36/2", 18),
    ("½ cup", Fraction(1, 2)),
    ("-1 ½", Fraction(-3, 2)),
    ("2.5/5", Fraction(1, 2)),
    (r"\frac34", Fraction(3, 4)),
    (r"\tfrac{-3}{4}", Fraction(-3, 4)),
    (r"12 \frac{3}{4}", Fraction(51, 4)),
    ("7 or 5/0", 7),
    ("12/25/2020", 2020),
    # within words, markup
    ("18 of H2O", 18),
    ("_18_", 18),
    (r"\boxed{18}", 18),
    # none
    ("", None),
    ("I do not know.", None),
    ("####", None),
    ("1" * 5000, None),
    ("1/0", None),
    ("x2", None),
]


@pytest.mark.parametrize(("answer", "number"), HARD)
def test_the_number_of_an_answer_is_found(answer: str, number: Fraction | int | None) -> None:
    assert number_of(answer) == number


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("9 * 2 = <<9*2=18>>18\n#### 18", "So it is 18."),
        ("#### 1,800", "1800"),
        (18, "18.00"),
        (0.1, "1/10"),
        (1e16, "10000000000000000"),
        ("$18", "18"),
        ("3 1/2 hours", "3.5"),
        ("-0.5", "−1/2"),  # noqa: RUF001
        ("50%", "50"),
        (r"She sells 9, and earns \boxed{18}.", r"\boxed{18} in 2 days"),
        ("The answer is 18, not 20.", "$18"),
        (1e300, "1e300"),
    ],
)
def test_a_reference_is_a_solution_or_a_number(reference: object, answer: str) -> None:
    NUMERIC.check(reference)
    assert NUMERIC.score(answer, reference) == 1.0
    assert NUMERIC.score("17", reference) == NUMERIC.score("none", reference) == 0.0


@pytest.mark.parametrize("reference", ["none", "18 to 20", "", None, True, [18], float("nan"), float("inf")])
def test_a_reference_without_a_number_is_refused(reference: object) -> None:
    with pytest.raises(ColllmError, match=r'a number, or a solution that ends with "#### 18", is right'):
        NUMERIC.check(reference)


NUMBERS = [
    "{0}",
    "{0}.",
    "{0}.00",
    "{0:,}",
    "${0:,}.00",
    "{0}%",
    "{0} dollars",
    "{0} m^2",
    "{0}e0",
    "{0}/1",
    r"{0} \times 10^{{0}}",
    r"\frac{{{0}}}{{1}}",
    "{0:_}",
]
STATEMENTS = [
    "{}",
    "She has 5 apples: {}",
    "#### {}\n3",
    "The answer is {}\nNot 3.",
    "**Answer:** {}\n\nAs 9 > 3.",
    r"So 5 days make $\boxed{{{}}}$, 3 more than before.",
    r"\boxed{{{}\text{{ in all}}}}. 3 are left.",
    "5 days make **{}** for 3 of us.",
]


@given(st.integers(-(10**12), 10**12), st.sampled_from(NUMBERS), st.sampled_from(STATEMENTS))
def test_a_number_is_the_same_however_it_is_written(number: int, form: str, statement: str) -> None:
    answer = statement.format(form.format(number).replace("_", " "))
    assert NUMERIC.score(answer, number) == 1.0
    assert NUMERIC.score(answer, number + 1) == 0.0


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("0123456789,./-$ #e{}\\½^"))
def test_a_reference_that_is_taken_is_right_as_an_answer(reference: object) -> None:
    try:
        NUMERIC.check(reference)
    except ColllmError:
        assert isinstance(reference, str)
    else:
        assert NUMERIC.score(str(reference), reference) == 1.0


@given(st.text(st.sampled_from("0123456789,./-$ #e{}\\")))
def test_any_text_has_a_number_or_none(text: str) -> None:
    number = number_of(text)
    assert number is None or isinstance(number, Fraction)
