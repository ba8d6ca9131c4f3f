"""What Serve has deployed on the cluster that this process is connected to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from colllm_ray.errors import ColllmError, reason_in

RUNS = "RUNNING"  # of a copy
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")  # of a deployment


@dataclass(frozen=True)
class Replica:
    """A copy; `state` is Serve's word, `pid` and `node` are None where it is not placed yet."""

    name: str
    state: str
    node: str | None
    pid: int | None


@dataclass(frozen=True)
class Deployed:
    """A deployment; `reserved` is what each copy reserves, as the options of a Ray actor."""

    application: str
    name: str
    status: str
    wanted: int
    replicas: tuple[Replica, ...]
    reserved: dict[str, Any]
    max_per_node: int | None
    message: str

    @property
    def reason(self) -> str:
        """Why it does not run, in one line: how the traceback ends that Serve has in its message."""
        return reason_in(self.message)

    @property
    def running(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.state == RUNS]

    @property
    def unplaced(self) -> list[Replica]:
        """Those that Serve knows no node of: without a place, or just started."""
        return [replica for replica in self.replicas if replica.node is None]

    @property
    def is_whole(self) -> bool:
        """Whether just those run that should."""
        return len(self.running) == len(self.replicas) == self.wanted


def deployed() -> list[Deployed]:
    """All deployments of all applications. Raises ColllmError where Serve does not run."""
    return [
        _deployed(application, name, details)
        for application, content in _applications().items()
        for name, details in content["deployments"].items()
    ]


def route_prefixes() -> dict[str, str | None]:
    """Below which path each application answers, None for one without HTTP. Raises ColllmError as `deployed` does."""
    return {name: content["route_prefix"] for name, content in _applications().items()}


def _applications() -> dict[str, Any]:
    try:
        client = _get_global_client()  # Serve's own: the dashboard tells the same, but not every Ray has one
    except RayServeException as error:
        raise ColllmError("this Ray serves nothing; `colllm serve` or `colllm deploy` does") from error
    applications: dict[str, Any] = client.get_serve_details()["applications"]
    return applications


def _deployed(application: str, name: str, details: dict[str, Any]) -> Deployed:
    return Deployed(
        application=application,
        name=name,
        status=_text(details["status"]),
        wanted=details["target_num_replicas"],
        replicas=tuple(
            Replica(replica["replica_id"], _text(replica["state"]), replica.get("node_id"), replica.get("pid"))
            for replica in details["replicas"]
        ),
        reserved=details["deployment_config"]["ray_actor_options"],
        max_per_node=details["deployment_config"].get("max_replicas_per_node"),
        message=details["message"],
    )


def _text(value: object) -> str:
    return str(getattr(value, "value", value))
