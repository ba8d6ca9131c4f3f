"""How `pytest -n 2` distributes the tests: file by file, but for those that share what takes long to make."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# The files of a row share a process: they need the same fixture that takes long to make. Rows begin in this order, each
# in the first process that is free, and all other files after them: what takes longest comes first.
ROWS = (
    ("tests/training/",),  # scored_tiny, trained_tiny
    (  # demo, and the lab served
        "tests/lab/test_demo.py",
        *(
            f"tests/serving/test_{name}.py"
            for name in "api clients cold_expert http ingress limits metrics page port schema starting texts".split()
        ),
        "tests/test_cli.py",
    ),
    ("tests/scoring/test_score.py",),
    ("tests/scoring/test_score_kills.py",),
    ("tests/benchmarks/test_smoke.py",),
    ("tests/clusters/test_chaos.py",),
    ("tests/test_jobs.py", "tests/clusters/test_local.py"),  # cluster
    ("tests/serving/test_expert_link.py",),
)


def rank(nodeid: str) -> int:
    """The row of a test's file; that behind the last for a file of none."""
    return next((i for i, row in enumerate(ROWS) if nodeid.startswith(row)), len(ROWS))


class Scheduling(LoadScopeScheduling):
    """Hands out the rows above, and then the other files, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would begin with the files that have most tests

    def _split_scope(self, nodeid: str) -> str:
        row = rank(nodeid)
        return ROWS[row][0] if row < len(ROWS) else nodeid.partition("::")[0]
