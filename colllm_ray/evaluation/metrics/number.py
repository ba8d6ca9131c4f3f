"""Numbers as people and models write them, in plain text and in LaTeX."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

LONGEST = 300  # characters of a number; Python refuses to read integers of some thousands

_MINUS = "[-−–‑]"  # noqa: RUF001
# 1,000 and 1 000 and 1'000 and 1,00,000. A point always begins decimals.
_THOUSANDS = r"[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+|(?:['’][0-9]{3})+)|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}"  # noqa: RUF001
_INTEGER = rf"(?:(?:{_THOUSANDS})(?![0-9])|[0-9]+)"
_PART = rf"{_INTEGER}(?:\.[0-9]+)?"
_DECIMAL = rf"(?:{_PART}|(?<!\.)\.[0-9]+)(?:[eE][-+]?[0-9]{{1,3}}(?![0-9A-Za-z]))?"
NUMBER = re.compile(
    r"(?<![^\W_])(?<![0-9]\.)"  # no part of a word, or of a longer number
    r"(?<![^\W_]_)(?<!_\{)(?<!\^)(?<!\^[-−])(?<!\^\{)(?<!\^\{[-−])"  # no index, no exponent, as in m^2  # noqa: RUF001
    rf"(?:(?<!\))(?P<minus>{_MINUS}))?"
    rf"(?:\\?[$€£¥₹₩₽]\s?(?P<inner_minus>{_MINUS})?)?"
    rf"(?:(?:(?P<whole>{_INTEGER})[ ])?(?P<numerator>{_PART})[ ]?/[ ]?(?P<denominator>{_PART})(?!\.?[0-9])"
    rf"|(?P<decimal>{_DECIMAL}))"
)

DELIMITER = re.compile(r"\\[()\[\]]|\\left\b|\\right\b")
SPACE = re.compile(r"\\[ ;:]|[~\u00a0\u2007\u2009\u202f]")
_ARGUMENT = r"\s*(?:\{{\s*(?P<{0}>-?[0-9][0-9.,]*)\s*\}}|(?P<{0}_digit>[0-9]))"
FRAC = re.compile(rf"(?:(?P<whole>[0-9])\s?)?\\[dtc]?frac{_ARGUMENT.format('above')}{_ARGUMENT.format('below')}")
FRACTION_SLASH = "\u2044"
VULGAR = re.compile(r"(?:([0-9])\s?)?([¼-¾⅐-⅞])")
SUPERSCRIPT = re.compile(r"(?<=10)[⁻⁺]?[⁰¹²³⁴-⁹]+")
POWER_OF_TEN = re.compile(
    r"(?:(?<=[0-9])(?P<times>\s*(?:\\times|\\cdot|[x×*·])\s*)|(?<![0-9.,]))"  # noqa: RUF001
    r"10\s*\^\s*(?:\{\s*(?P<braced>[-−+]?[0-9]{1,3})\s*\}|(?P<bare>[-−+]?[0-9]{1,3}))(?![0-9])"  # noqa: RUF001
)


def numbers(text: str) -> list[Fraction]:
    """Return all numbers of a `plain` text, in order."""
    values = (value(match) for match in NUMBER.finditer(text))
    return [number for number in values if number is not None]


def value(match: re.Match[str]) -> Fraction | None:
    """Return the value of a match of NUMBER; None for a division by zero, or endless digits."""
    if len(match[0]) > LONGEST:
        return None
    whole, numerator, denominator, decimal = (
        Fraction(re.sub(r"[ ,'’]", "", match[name] or "0"))  # noqa: RUF001
        for name in ("whole", "numerator", "denominator", "decimal")
    )
    if match["denominator"] is None:
        number = decimal
    elif denominator == 0:
        return None
    else:
        number = whole + numerator / denominator
    return -number if match["minus"] or match["inner_minus"] else number


def plain(text: str) -> str:
    r"""Remove what LaTeX writes within numbers; write \frac{1}{2} and ½ as 1/2, 5 \times 10^3 and 5·10³ as 5e3."""
    for spacing, replacement in ((r"\,", ""), (r"\!", ""), ("{,}", ",")):
        text = text.replace(spacing, replacement)
    text = SPACE.sub(" ", DELIMITER.sub("", text))
    text = VULGAR.sub(
        lambda match: _fraction(match[1] or "", *unicodedata.normalize("NFKC", match[2]).split(FRACTION_SLASH)), text
    )
    text = SUPERSCRIPT.sub(
        lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text.replace(FRACTION_SLASH, "/")
    )
    text = FRAC.sub(_written_out, text)
    return POWER_OF_TEN.sub(_exponent, text)


def _written_out(match: re.Match[str]) -> str:
    above, below = (match[name] or match[f"{name}_digit"] for name in ("above", "below"))
    return _fraction(match["whole"] or "", above, below)


def _fraction(whole: str, above: str, below: str) -> str:
    return f"{whole} {above}/{below}" if whole else f"{above}/{below}"


def _exponent(match: re.Match[str]) -> str:
    exponent = (match["braced"] or match["bare"]).replace("−", "-")  # noqa: RUF001
    return f"e{exponent}" if match["times"] else f"1e{exponent}"
