"""The nodes of the cluster, what is free there, and what a replica misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]  # a compiled module

GIB = 2**30


@dataclass
class NodeRoom:
    """A node and what of its resources is free; amounts as Ray counts them, memory in bytes."""

    node: str
    name: str
    labels: Mapping[str, str]
    total: Mapping[str, float]
    free: dict[str, float]

    def fits(self, reserved: Mapping[str, Any]) -> bool:
        """Whether a replica finds all that it reserves here."""
        labels = node_labels_match_selector(dict(self.labels), reserved.get("label_selector", {}))
        return labels and all(self.free.get(name, 0.0) >= amount for name, amount in amounts(reserved).items())

    def take(self, reserved: Mapping[str, Any]) -> None:
        """Counts a replica that is placed here."""
        for name, amount in amounts(reserved).items():
            self.free[name] -= amount


def node_rooms() -> list[NodeRoom]:
    """Of the Ray that this process is connected to."""
    free = available_resources_per_node()
    return [
        NodeRoom(
            node=node["NodeID"],
            name=f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})",
            labels=node["Labels"],
            total=node["Resources"],
            free=dict(free.get(node["NodeID"], {})),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def amounts(reserved: Mapping[str, Any]) -> dict[str, float]:
    """What the options of a Ray actor reserve, by the names of Ray's resources."""
    named = {
        "CPU": reserved.get("num_cpus", 0),
        "GPU": reserved.get("num_gpus", 0),
        "memory": reserved.get("memory", 0),
    }
    return {name: amount for name, amount in {**named, **reserved.get("resources", {})}.items() if amount}


def why_nowhere(reserved: Mapping[str, Any], rooms: Sequence[NodeRoom]) -> str:
    """What is missing for a replica that fits into none of the rooms, those of nodes that may have one more of it."""
    if not rooms:
        return "all nodes have as many as `max_per_node` allows"
    selector: Mapping[str, str] = reserved.get("label_selector", {})
    for key, value in selector.items():
        if not any(node_labels_match_selector(dict(room.labels), {key: value}) for room in rooms):
            return f"no node has the label {key}: {value}"
    labelled = [room for room in rooms if node_labels_match_selector(dict(room.labels), dict(selector))]
    if not labelled:
        return f"no node has all of the labels {', '.join(f'{key}: {value}' for key, value in selector.items())}"
    where = "such node" if selector else "node"
    missing = []
    for name, amount in amounts(reserved).items():
        largest = max(room.total.get(name, 0.0) for room in labelled)
        free = max(room.free.get(name, 0.0) for room in labelled)
        if largest < amount:
            missing.append(f"no {where} has {_amount(name, amount)}; the largest has {_amount(name, largest)}")
        elif free < amount:
            missing.append(f"{_amount(name, amount)} wanted, at most {_amount(name, free)} free on one {where}")
    return "; ".join(missing) or f"no {where} has all of this free: {describe(reserved)}"


def describe(reserved: Mapping[str, Any]) -> str:
    """What a replica reserves, and the labels that its node must have."""
    labels = [f"{key}: {value}" for key, value in reserved.get("label_selector", {}).items()]
    return ", ".join([*(_amount(name, amount) for name, amount in amounts(reserved).items()), *labels])


def _amount(name: str, amount: float) -> str:
    return f"{amount / GIB:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}"
