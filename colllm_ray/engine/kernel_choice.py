"""Which way of computing linear layers is the fastest on this processor, by the number of rows: measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

ROWS = (1, 2, 3, 4, 8, 16)  # that are measured; what is between two of them goes the way of the lower one
MIN_ROWS = 4  # fewer may be faster when they are padded to these, by the processor
REPEATS = 3
CLEARLY = 1.1  # times as fast, from which on another way than oneDNN's plain one is taken
WORTH_A_COPY = 1.2  # times as fast as torch's own, somewhere, for weights that are held in two orders


@dataclass(frozen=True)
class KernelChoice:
    """For which of `ROWS` torch's own way is taken, and to how many rows fewer ones are padded for oneDNN's."""

    plain: frozenset[int] = frozenset()
    padding: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_all_plain(self) -> bool:
        return len(self.plain) == len(ROWS)

    def is_plain(self, rows: int) -> bool:
        return max((one for one in ROWS if one <= rows), default=ROWS[0]) in self.plain

    def padded(self, rows: int) -> int:
        return self.padding.get(rows, rows)


def fastest(plain: Mapping[int, float], blocked: Mapping[tuple[int, int], float]) -> KernelChoice:
    """The choice by seconds: `plain` of torch's own way by rows, `blocked` of oneDNN's by rows and what they become."""
    slower, padding, gain = set(), {}, 0.0
    for rows in ROWS:
        ways = {to: seconds for (count, to), seconds in blocked.items() if count == rows}
        best = min(ways, key=lambda to: ways[to])
        if ways[rows] <= CLEARLY * ways[best]:
            best = rows
        if best > rows:
            padding[rows] = best
        gain = max(gain, plain[rows] / ways[best])
        if CLEARLY * plain[rows] < ways[best]:
            slower.add(rows)
    return KernelChoice(frozenset(ROWS if slower and gain < WORTH_A_COPY else slower), padding)


def measured(
    plain: Callable[[int], object], blocked: Callable[[int, int], object], between: Callable[[], object]
) -> KernelChoice:
    """The choice by the least time of each way; arguments as the keys of `fastest`.

    The two orders of the weights take turns, and `between` comes after each, as the rest of a model comes between two
    uses of a layer: every way reads its weights from where they are in an answer, whichever was measured before it.
    """
    pads = [(rows, rows) for rows in ROWS] + [(rows, MIN_ROWS) for rows in ROWS if rows < MIN_ROWS]
    of_plain, of_blocked = dict.fromkeys(ROWS, math.inf), dict.fromkeys(pads, math.inf)
    for _ in range(REPEATS):
        for rows, to in pads:
            of_plain[rows] = min(of_plain[rows], _seconds(partial(plain, rows)))
            between()
            of_blocked[rows, to] = min(of_blocked[rows, to], _seconds(partial(blocked, rows, to)))
            between()
    return fastest(of_plain, of_blocked)


def _seconds(work: Callable[[], object]) -> float:
    begin = perf_counter()
    work()
    return perf_counter() - begin
