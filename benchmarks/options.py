"""The command line that every benchmark has, and how much each of its forms measures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

Amount = Literal["full", "quick", "smoke"]


class BenchmarkParser(argparse.ArgumentParser):
    """Options that every benchmark has: `amount`, `json`, `plot`; and `runs` where what it measures is repeated."""

    def __init__(self, description: str, runs: int | None = None) -> None:
        """`runs`: that a full form has unless --runs says otherwise."""
        super().__init__(description=description)
        self._runs = runs
        self.set_defaults(amount="full")
        amounts = self.add_mutually_exclusive_group()
        amounts.add_argument(
            "--quick",
            dest="amount",
            action="store_const",
            const="quick",
            help="fewer settings and repeats; no headlines",
        )
        amounts.add_argument(
            "--smoke",
            dest="amount",
            action="store_const",
            const="smoke",
            help="all of the code within 30 s; no headlines",
        )
        if runs is not None:
            self.add_argument(
                "--runs", type=int, metavar="N", help=f"how often headlines are measured ({runs}; 1 if quick or smoke)"
            )
        self.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
        self.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the results here")

    def options(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Those of the command line unless `arguments` are given; SystemExit where they are wrong."""
        options = self.parse_args(arguments)
        if self._runs is not None:
            if options.runs is None:
                options.runs = self._runs if options.amount == "full" else 1
            if options.runs < 1:
                self.error(f"argument --runs: one at least, not {options.runs}")
        for file in (options.json, options.plot):
            if file is not None and options.amount != "full" and file.resolve().is_relative_to(RESULTS):
                self.error(f"{file}: results that are kept are of full forms; --{options.amount} may write elsewhere")
        return options
