"""The Serve application of a collaboration: built here, started and stopped here."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import ray
from ray import serve
from ray.serve.config import ControllerOptions, HTTPOptions
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.serving import deployments, proxy_headers
from colllm_ray.serving.api.keys import KeyHashes
from colllm_ray.serving.deployments import QUIET
from colllm_ray.serving.router_client import router_client
from colllm_ray.serving.starting import telling_of_start

LOOPBACK = ("127.0.0.1", "::1", "localhost")
# A copy that hangs, or whose steps fail, is killed at once: what it has to drain has gone on elsewhere.
ENVIRONMENT = {
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # Of the proxies, which the controller starts.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{proxy_headers.__name__}.{proxy_headers.middlewares.__name__}",
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
    """The collaboration as it answers at the URL given, to those who know a key, for as long as the body runs.

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
        raise ColllmError("this Ray runs Serve already; stop that first (`serve shutdown`), or use another Ray")
    spec = TeamSpec.of(trained)
    try:
        _start_serve(proxies, HTTPOptions(host=host, port=port))
        with telling_of_start(spec.name):
            serve.run(http_application(spec, keys), name=spec.name)
        yield f"http://{host}:{port}"
    finally:
        serve.shutdown()


def deploy_http(trained: TrainedCollaboration, host: str, port: int, keys: KeyHashes = frozenset()) -> str:
    """Lets the cluster serve the collaboration until somebody stops it; returns the URL.

    One of the same name that is served already is updated: only what has changed starts anew, copy by copy, while the
    others answer. `host` and `port`, of each node of the cluster, hold where nothing is served yet.
    Raises ColllmError without keys where others than this machine may ask.
    """
    if not keys and host not in LOOPBACK:
        raise ColllmError(
            f"without API keys, whoever reaches {host}:{port} may ask: set $COLLLM_API_KEYS or `serving.api_keys`, or"
            " deploy with --host 127.0.0.1"
        )
    spec = TeamSpec.of(trained)
    application = http_application(spec, keys)
    _start_serve("EveryNode", HTTPOptions(host=host, port=port))
    with telling_of_start(spec.name):
        serve.run(application, name=spec.name)
    running = _get_global_client().http_config
    return f"http://{running.host}:{running.port}"


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
        yield serve.run(application, name=name, route_prefix=None)
    finally:
        if was_running:
            serve.delete(name)
        else:
            serve.shutdown()


def _start_serve(proxies: Literal["EveryNode", "HeadOnly", "Disabled"], http: HTTPOptions | None = None) -> None:
    """Where it runs already, it stays as it is."""
    serve.start(proxies, http_options=http, logging_config=QUIET, controller_options=CONTROLLER)


def _serve_is_running() -> bool:
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True
