"""Where replicas fit, and what is told where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from colllm_ray.config import Collaboration
from colllm_ray.serving.placement.nodes import NodeRoom, why_nowhere
from colllm_ray.serving.placement.plan import planned
from tests.conftest import ModelFolder

GIB = 2**30
NINE = "no such node has 9.0 GiB memory; the largest has 8.0 GiB memory"


def room(name: str, labels: dict[str, str] | None = None, **total: float) -> NodeRoom:
    return NodeRoom(name, name, labels or {}, total, dict(total))


def collaboration(model_folder: ModelFolder, expert: dict[str, Any]) -> Collaboration:
    return Collaboration.model_validate(
        {
            "name": "c",
            "base": {"model": str(model_folder("llama", 0))},
            "experts": [{"name": "one", "model": str(model_folder("qwen3", 0)), **expert}],
            "data": {"train": "t", "validation": "v"},
        }
    )


def test_copies_are_spread_over_the_nodes_that_have_room(model_folder: ModelFolder) -> None:
    gpus = [room(f"gpu-{i}", {"pool": "experts"}, CPU=4, GPU=1, memory=8 * GIB) for i in (1, 2)]
    rooms = [room("head", CPU=1), *gpus]
    expert = {"num_gpus": 0.5, "replicas": 3, "memory_gib": 2, "labels": {"pool": "experts"}}
    ingress, base, one = planned(collaboration(model_folder, expert), rooms)
    assert (ingress.nodes, ingress.missing) == (("head",), None)
    assert (base.nodes, base.missing) == (("head",), None)
    assert (one.nodes, one.missing) == (("gpu-1", "gpu-2", "gpu-1"), None)
    assert [node.free["GPU"] for node in gpus] == [0, 0.5]


@pytest.mark.parametrize(
    ("expert", "missing"),
    [
        ({"num_gpus": 1, "replicas": 2}, "1 GPU wanted, at most 0 GPU free on one node"),
        ({"num_gpus": 2}, "no node has 2 GPU; the largest has 1 GPU"),
        ({"resources": {"tpu": 1}}, "no node has 1 tpu; the largest has 0 tpu"),
        ({"labels": {"pool": "base"}}, "no node has the label pool: base"),
        ({"labels": {"pool": "experts", "zone": "b"}}, "no node has all of the labels pool: experts, zone: b"),
        ({"memory_gib": 9, "labels": {"zone": "b"}}, NINE),
        ({"max_per_node": 1, "replicas": 4}, "all nodes have as many as `max_per_node` allows"),
        ({"num_gpus": 1, "num_cpus": 4}, "no node has all of this free: 4 CPU, 1 GPU"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told(expert: dict[str, Any], missing: str, model_folder: ModelFolder) -> None:
    rooms = [
        room("gpu", {"pool": "experts"}, CPU=3, GPU=1, memory=8 * GIB),
        room("cpu", {"zone": "b"}, CPU=8, memory=8 * GIB),
        room("other", CPU=1),
    ]
    one = planned(collaboration(model_folder, expert), rooms)[-1]
    assert one.missing == missing
    assert len(one.nodes) < one.copies


def test_autoscaled_copies_are_planned_all(model_folder: ModelFolder) -> None:
    plans = planned(collaboration(model_folder, {"autoscaling": {"min": 0, "max": 3, "sessions": 4}}), None)
    assert [(plan.name, plan.copies, plan.nodes) for plan in plans] == [
        ("ingress", 1, ()),
        ("base", 1, ()),
        ("one", 3, ()),
    ]


def test_a_replica_is_compared_with_the_room_that_is_left() -> None:
    taken = room("gpu", GPU=1)
    taken.take({"num_gpus": 1})
    assert not taken.fits({"num_gpus": 1})
    assert why_nowhere({"num_gpus": 1}, [taken]) == "1 GPU wanted, at most 0 GPU free on one node"
