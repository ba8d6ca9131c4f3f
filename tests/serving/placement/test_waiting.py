"""Which copies of a deployment are told to have no place."""

from __future__ import annotations

from typing import Any

import pytest

from colllm_ray.serving.deployed import Deployed, Replica
from colllm_ray.serving.placement.nodes import NodeRoom
from colllm_ray.serving.placement.waiting import Demand, why_waiting

GPU = {"CPU": 1.0, "GPU": 0.3333}


def deployment(max_per_node: int | None = None) -> Deployed:
    """One copy runs, of two Serve knows no node yet."""
    running = Replica("a", "RUNNING", "n1", 1)
    unplaced = [Replica(name, "STARTING", None, None) for name in "bc"]
    reserved: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1 / 3}
    return Deployed("clinic", "Expert-law", "UPDATING", 3, (running, *unplaced), reserved, max_per_node, "")


@pytest.mark.parametrize(
    ("waiting", "free", "max_per_node", "told"),
    [
        ([], 0, None, None),  # both start, and took the last GPU
        ([Demand({"CPU": 1.0}, 5)], 0, None, None),  # those of others
        ([Demand(GPU, 1)], 0, None, "1 cannot be placed: 0.333333 GPU wanted, at most 0 GPU free on one node"),
        ([Demand(GPU, 5)], 0, None, "2 cannot be placed: 0.333333 GPU wanted, at most 0 GPU free on one node"),
        ([Demand(GPU, 2)], 1, None, "2 to be placed"),
        ([Demand(GPU, 2)], 1, 1, "2 cannot be placed: all nodes have as many as `max_per_node` allows"),
    ],
)
def test_copies_without_a_place_are_told_from_those_that_start(
    waiting: list[Demand], free: float, max_per_node: int | None, told: str | None
) -> None:
    room = NodeRoom("n1", "n1", {}, {"CPU": 4, "GPU": 1}, {"CPU": 4, "GPU": free})
    assert why_waiting(deployment(max_per_node), [room], waiting) == told
