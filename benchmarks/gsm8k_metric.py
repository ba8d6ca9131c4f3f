"""Does `numeric` judge as GSM8K does? Its solutions, read by the metric and by the key of GSM8K's own repository."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colllm_ray.evaluation.metrics.numeric import Numeric

FEW = Path(__file__).with_name("data") / "gsm8k_like.jsonl"
KEY = re.compile(r"#### (\-?[0-9\.\,]+)")  # grade_school_math/dataset.py


@dataclass(frozen=True)
class Agreement:
    """In how many of all cases both say the same."""

    what: str
    same: int
    cases: int


def agreements(solutions: Sequence[str]) -> list[Agreement]:
    """How the metric judges the solutions by each other, beside what is known of them."""
    score = Numeric().score
    pairs = list(zip(solutions, [*solutions[1:], solutions[0]], strict=True))

    def judged_right(answers: Sequence[str]) -> int:
        return sum(score(answer, solution) == 1 for answer, solution in zip(answers, solutions, strict=True))

    agreeing = sum((score(one, other) == 1) is (key(one) == key(other)) for one, other in pairs)
    return [
        Agreement("solutions are right by themselves", judged_right(solutions), len(solutions)),
        Agreement("neighbours are as right as GSM8K's key says", agreeing, len(pairs)),
        Agreement(
            'with "The answer is $X." for "#### X"',
            judged_right([KEY.sub(r"The answer is $\1.", solution) for solution in solutions]),
            len(solutions),
        ),
        Agreement(
            'with "X" for "#### X"',
            judged_right([KEY.sub(r"\1", solution) for solution in solutions]),
            len(solutions),
        ),
    ]


def key(solution: str) -> str:
    """What GSM8K compares. Raises ValueError for a solution without it."""
    match = KEY.search(solution)
    if match is None:
        raise ValueError(f"{solution!r} does not end with '#### ' and a number, as GSM8K's solutions do")
    return match[1].replace(",", "")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    data = made.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, metavar="test.jsonl", help="GSM8K's file")
    data.add_argument("--smoke", dest="data", action="store_const", const=FEW, help="a few rows like GSM8K's instead")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    lines = parser().parse_args(arguments).data.read_text(encoding="utf-8").splitlines()
    found = agreements([json.loads(line)["answer"] for line in lines])
    for one in found:
        print(f"{one.same} of {one.cases}: {one.what}")
    if any(one.same < one.cases for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
