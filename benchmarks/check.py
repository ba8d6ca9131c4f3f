"""Compares new runs with the results that are kept: which headlines fell by more than the noise that was measured?

    python -m benchmarks.check bench/decode.json bench/experts.json

The noise of a headline is the spread of the runs that are kept of it. Exit status 1 where something fell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.headline import Headline
from benchmarks.options import RESULTS
from benchmarks.report import Row, print_table
from benchmarks.results_file import Results

ASSUMED = 0.05  # of the value: the noise where one run alone is kept

Verdict = Literal["fell", "gone", "rose", "as before", "not judged", "new"]


@dataclass(frozen=True)
class Comparison:
    """A headline as it is kept and as it is now; one of the two may be missing."""

    key: str
    kept: Headline | None
    new: Headline | None

    @property
    def noise(self) -> float:
        if self.kept is None:
            return 0.0
        return self.kept.spread if len(self.kept.runs) > 1 else ASSUMED * abs(self.kept.value)

    @property
    def verdict(self) -> Verdict:
        if self.kept is None:
            return "new"
        if self.new is None:
            return "gone"
        if self.kept.better == "neither":
            return "not judged"
        gained = self.new.value - self.kept.value
        if self.kept.better == "lower":
            gained = -gained
        if abs(gained) <= self.noise:
            return "as before"
        return "rose" if gained > 0 else "fell"

    def row(self, benchmark: str) -> Row:
        row: Row = {"benchmark": benchmark, "headline": self.key}
        for name, one in (("kept", self.kept), ("now", self.new)):
            row[name] = f"{one.value:g}" if one else ""
        return row | {"noise": f"{self.noise:.3g}", "verdict": self.verdict}


def compared(kept: Results, new: Results) -> Iterator[Comparison]:
    """Every headline of either."""
    for key in dict.fromkeys((*kept.headline, *new.headline)):
        yield Comparison(key, kept.headline.get(key), new.headline.get(key))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="what a benchmark wrote with --json")
    made.add_argument("--kept", type=Path, default=RESULTS, metavar="DIR", help="results to compare with (%(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    others: set[str] = set()
    try:
        for new in map(Results.read, options.runs):
            kept = Results.read(options.kept / f"{new.benchmark}.json")
            rows += [comparison.row(new.benchmark) for comparison in compared(kept, new)]
            if kept.cpu != new.cpu:
                others.add(f"{new.benchmark}: kept of {kept.cpu}, run on {new.cpu}")
    except ValueError as error:
        parser().error(str(error))
    print_table(rows, list(rows[0]) if rows else ["benchmark"])
    for other in sorted(others):
        print(f"another processor, so that a fall may be its own: {other}")
    fallen = [f"{row['benchmark']}.{row['headline']}" for row in rows if row["verdict"] in ("fell", "gone")]
    if fallen:
        print(f"fell by more than the noise: {', '.join(fallen)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
