"""How `pytest -n 2` distributes the tests: file by file, but for those that share what takes long to make."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Each begins in the first process that is free, in this order, before all other files: the longest come first.
TOGETHER = (
    ("tests/lab/test_demo.py", "tests/serving/test_http.py", "tests/serving/test_port.py", "tests/test_cli.py"),  # demo
    ("tests/scoring/test_score.py", "tests/training/test_train.py"),  # tiny_run
    ("tests/scoring/test_score_kills.py",),
    ("tests/test_jobs.py",),
    ("tests/serving/test_expert_link.py",),
    ("tests/evaluation/test_evaluate.py",),
)


def rank(nodeid: str) -> int:
    """The place of a test's file in the order above."""
    file = nodeid.partition("::")[0]
    return next((i for i, files in enumerate(TOGETHER) if file in files), len(TOGETHER))


class Scheduling(LoadScopeScheduling):
    """Hands out the groups above, and then the other files, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would begin with the files that have most tests

    def _split_scope(self, nodeid: str) -> str:
        place = rank(nodeid)
        return TOGETHER[place][0] if place < len(TOGETHER) else nodeid.partition("::")[0]
