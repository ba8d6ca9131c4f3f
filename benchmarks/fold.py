"""Folds several runs of one benchmark into one result, whose headlines have the spread of the runs.

    python -m benchmarks.fold runs/decode-*.json --json benchmarks/results/decode.json

Each number of a headline is then one run's median; the rows are those of the last run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline import Headline
from benchmarks.report import write_content
from benchmarks.results_file import Results


def folded(runs: Sequence[Results]) -> dict[str, Any]:
    """The content of the file. Raises ValueError where the runs are of different things."""
    for what, each in (
        ("benchmarks", {run.benchmark for run in runs}),
        ("commits", {run.commit for run in runs}),
        ("processors", {run.cpu for run in runs}),
        ("headlines", {", ".join(sorted(run.headline)) for run in runs}),
    ):
        if len(each) > 1:
            raise ValueError(f"runs of different {what} cannot be folded: {'; '.join(sorted(each))}")
    last = runs[-1]
    headline = {
        key: Headline(tuple(run.headline[key].value for run in runs), one.better) for key, one in last.headline.items()
    }
    return {**last.content, "headline": {key: one.as_json() for key, one in headline.items()}}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="what the benchmark wrote with --json")
    made.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the result goes")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    try:
        content = folded([Results.read(file) for file in options.runs])
    except ValueError as error:
        parser().error(str(error))
    write_content(options.json, content)


if __name__ == "__main__":
    main()
