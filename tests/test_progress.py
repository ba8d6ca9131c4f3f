from __future__ import annotations

import io
import re

from rich.console import Console

from colllm_ray.progress import ProgressLines
from colllm_ray.scoring.scoring_bars import ScoringBars
from colllm_ray.scoring.tally import Begun
from tests.commands import wait_until


def log() -> tuple[io.StringIO, Console]:
    lines = io.StringIO()
    return lines, Console(file=lines, width=160)


def test_a_task_that_stands_still_gives_a_sign_of_life() -> None:
    lines, console = log()
    with ProgressLines(console, every_s=0.02) as progress:
        progress.add_task("load", total=10, completed=3, note="layers")
        progress.add_task("train", total=None, note="")
        progress.add_task("read", total=5, completed=5, note="")
        wait_until(lambda: lines.getvalue().count("load: 3/10 layers\n") >= 2, "two signs of life")
        wait_until(lambda: "train: 0 in 0:00:00\n" in lines.getvalue(), "one of a task without an end")
    assert "read" not in lines.getvalue()


def test_bars_of_scoring_tell_of_shards_that_are_begun() -> None:
    lines, console = log()
    tokens = [100, 100, 50]
    with ProgressLines(console) as progress:
        bars = ScoringBars(progress, tokens, {"base": [1, 2], "law": [0, 1, 2]})
        base, law = progress.tasks
        assert (base.completed, base.total, law.completed) == (100, 250, 0)
        bars.told({Begun("law", 0): 10, Begun("law", 1): 30})
        assert law.completed == 40
        bars.told({Begun("law", 0): 60})
        assert law.completed == 90
        bars.told({Begun("law", 0): 5})  # its scorer died, and another begins it anew
        assert law.completed == 90
        bars.finished(Begun("law", 0))
        assert law.completed == 130
        assert re.fullmatch(r"tokens, [\d,]+ a second, \d+:\d\d:\d\d left", law.fields["note"])
        for shard in (1, 2):
            bars.finished(Begun("law", shard))
            bars.finished(Begun("base", shard))
    assert law.finished
    assert base.finished
    assert "score law: 250/250 tokens" in lines.getvalue()
