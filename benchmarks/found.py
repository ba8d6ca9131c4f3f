"""What the runs of a benchmark have found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.measured import Measured
from benchmarks.report import Row, latencies

Setting = tuple[str, float, str]  # models, deferral frequency, how


@dataclass
class Found:
    """Of each setting all answers, of each rival the seconds of its tokens, of each headline a number for each run."""

    measured: dict[Setting, Measured] = field(default_factory=dict)
    rivals: dict[Setting, list[float]] = field(default_factory=dict)
    runs: dict[str, list[float]] = field(default_factory=dict)

    def answers(self, setting: Setting, measured: Measured) -> None:
        self.measured[setting] = self.measured.get(setting, Measured()) + measured

    def rival(self, setting: Setting, seconds: Sequence[float]) -> None:
        self.rivals.setdefault(setting, []).extend(seconds)

    def run(self, key: str, number: float) -> None:
        self.runs.setdefault(key, []).append(number)

    def rows(self, link_ms: float) -> list[Row]:
        """By models and how, the frequencies in their order; rivals last."""
        hows = list(dict.fromkeys((models, how) for models, _, how in self.measured))
        ours = [
            self.measured[setting].row(*setting, link_ms if "Serve" in setting[2] else 0.0)
            for setting in sorted(self.measured, key=lambda one: (hows.index((one[0], one[2])), one[1]))
        ]
        theirs: list[Row] = [
            {
                "models": models,
                "f": frequency,
                "how": how,
                "tokens_per_s": round(len(seconds) / sum(seconds), 1),
                **latencies(seconds),
            }
            for (models, frequency, how), seconds in self.rivals.items()
        ]
        return [*ours, *theirs]
