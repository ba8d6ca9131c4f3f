"""The Serve application of a collaboration: built here, started and stopped here."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import ray
from ray import serve
from ray.serve.config import ControllerOptions, HTTPOptions
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.serving import deployments, proxies
from colllm_ray.serving.api.keys import KeyHashes
from colllm_ray.serving.deployed import FAILED, deployed, route_prefixes
from colllm_ray.serving.deployments import QUIET
from colllm_ray.serving.router_client import router_client
from colllm_ray.serving.starting import telling_of_start

LOOPBACK = ("127.0.0.1", "::1", "localhost")
STOP_S = 30.0
# Of the controller, and of what it starts.
ENVIRONMENT = {
    # A copy that hangs, or whose steps fail, is killed at once: what it has to drain has gone on elsewhere.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{proxies.__name__}.{proxies.middlewares.__name__}",
}
CONTROLLER = ControllerOptions(runtime_env={"env_vars": ENVIRONMENT})


def router_application(spec: TeamSpec) -> serve.Application:
    """Router, experts and guests."""
    experts = [deployments.expert(spec, config) for config in (*spec.trained.collaboration.experts, *spec.guests)]
    return deployments.router(spec, *experts)


def http_application(spec: TeamSpec, keys: KeyHashes) -> serve.Application:
    """The router application behind its ingress."""
    return deployments.ingress(spec, keys, router_application(spec))


@contextmanager
def serving_http(
    trained: TrainedCollaboration,
    host: str,
    port: int,
    keys: KeyHashes = frozenset(),
    proxies: Literal["EveryNode", "HeadOnly"] = "EveryNode",
) -> Iterator[str]:
    """The collaboration as `start_http` lets it answer, for as long as the body runs."""
    was_running = _serve_is_running()
    try:
        yield start_http(trained, host, port, keys, proxies)
    finally:
        if not was_running:  # else it is another's, and nothing was started
            _stop_serve()


def start_http(
    trained: TrainedCollaboration,
    host: str,
    port: int,
    keys: KeyHashes = frozenset(),
    proxies: Literal["EveryNode", "HeadOnly"] = "EveryNode",
) -> str:
    """Lets the collaboration answer, to those who know a key, until this Ray ends; returns the URL.

    Without keys it answers all. `proxies`: which nodes of the cluster take requests in.
    Raises ColllmError where the port is taken, or where this Ray has a Serve already, with a port of its own.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ColllmError(f"cannot serve at {host}:{port}: {error.strerror}; choose another --port") from error
    if _serve_is_running():
        raise ColllmError(
            "this Ray runs Serve already; `colllm deploy` adds to it, `serve shutdown` stops it; or use another Ray"
        )
    spec = TeamSpec.of(trained)
    application = http_application(spec, keys)
    _start_serve(proxies, HTTPOptions(host=host, port=port))
    prefix = trained.collaboration.serving.route_prefix
    _run(application, spec.name, prefix)
    return _url(host, port, prefix)


def deploy_http(trained: TrainedCollaboration, host: str, port: int, keys: KeyHashes = frozenset()) -> str:
    """Lets the cluster serve the collaboration until somebody stops it; returns the URL.

    One of the same name that is served already is updated: only what has changed starts anew, copy by copy, while the
    others answer. `host` and `port`, of each node of the cluster, hold where nothing is served yet. Others may be
    served beside it, each below a route prefix of its own.
    Raises ColllmError without keys where others than this machine may ask, and where the prefix is another's.
    """
    if not keys and host not in LOOPBACK:
        raise ColllmError(
            f"without API keys, whoever reaches {host}:{port} may ask: set $COLLLM_API_KEYS or `serving.api_keys`, or"
            " deploy with --host 127.0.0.1"
        )
    spec = TeamSpec.of(trained)
    prefix = trained.collaboration.serving.route_prefix
    application = http_application(spec, keys)
    _start_serve("EveryNode", HTTPOptions(host=host, port=port))
    for name, taken in route_prefixes().items():
        if taken == prefix and name != spec.name:
            raise ColllmError(
                f"{prefix} is where the application {name} answers; give {spec.name} a --route-prefix of its own, such"
                f" as /{spec.name}"
            )
    _run(application, spec.name, prefix)
    running = _get_global_client().http_config
    return _url(running.host, running.port, prefix)


def _url(host: str, port: int, prefix: str) -> str:
    return f"http://{host}:{port}{prefix.rstrip('/')}"


def _run(application: serve.Application, name: str, prefix: str | None) -> DeploymentHandle:
    """Raises ColllmError that says which replicas cannot start, and why."""
    with telling_of_start(name):
        try:
            return serve.run(application, name=name, route_prefix=prefix)
        except RuntimeError as error:
            failed = (one for one in deployed() if one.application == name and one.status in FAILED)
            reasons = [f"{one.name}: {one.reason}" for one in failed]
            raise ColllmError(f"{name} cannot start: {'; '.join(reasons) or error}") from error


@contextmanager
def running_router(spec: TeamSpec) -> Iterator[DeploymentHandle]:
    """The router of a collaboration that runs, without HTTP, for as long as the body does."""
    with running(router_application(spec), f"{spec.name}-router") as router:
        yield router_client(router)


@contextmanager
def running(application: serve.Application, name: str) -> Iterator[DeploymentHandle]:
    """An application without HTTP, for as long as the body runs."""
    was_running = _serve_is_running()
    try:
        if not was_running:
            _start_serve("Disabled")
        yield _run(application, name, None)
    finally:
        if was_running:
            serve.delete(name)
        else:
            _stop_serve()


def _start_serve(proxies: Literal["EveryNode", "HeadOnly", "Disabled"], http: HTTPOptions | None = None) -> None:
    """Where it runs already, it stays as it is."""
    serve.start(proxies, http_options=http, logging_config=QUIET, controller_options=CONTROLLER)


def _serve_is_running() -> bool:
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _stop_serve() -> None:
    """Stops Serve, as `serve.shutdown` does. It would ask the controller to end itself, and again once that is dead."""
    with suppress(RayServeException):
        controller = _get_global_client()._controller
        with suppress(ray.exceptions.RayActorError):
            ray.get(controller.graceful_shutdown.options(max_task_retries=0).remote(), timeout=STOP_S)
    serve.shutdown()
