"""What Serve is told of each deployment: room, copies, health, and which version of it this is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig
from safetensors.torch import save

from colllm_ray import __version__
from colllm_ray.config import INGRESS_CPUS, ExpertConfig, ModelConfig, ServingConfig
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.engine.weights import weights_stamp
from colllm_ray.serving.api.keys import KeyHashes
from colllm_ray.serving.expert import Expert
from colllm_ray.serving.health import EVERY_S, WITHIN_S
from colllm_ray.serving.ingress import Ingress
from colllm_ray.serving.router import Router

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
ONE_LINE_A_REQUEST = LoggingConfig(encoding="JSON", enable_access_log=False)
ROOM_TO_ASK = 16  # calls of a router whose sessions are all taken, such as whether it is well
NOT_LOADED = {"replicas", "autoscaling", "max_per_node", "scorers", "batch_tokens", "price"}
ALL = 100_000  # requests that a replica takes in: who limits them is somebody else


def expert(spec: TeamSpec, config: ExpertConfig) -> serve.Application:
    """One expert. It takes in all sessions: beyond its slots the least recently used ones are taken in again."""
    options = {
        **replica_options(config, spec.serving),
        "name": f"Expert-{config.name}",
        "health_check_timeout_s": max(WITHIN_S, config.silence_s),
        "max_ongoing_requests": ALL,
        "version": _version(spec.name, _loaded(config), spec.vocab_size, spec.context),
    }
    return _with(Expert, options).bind(config, spec.name, spec.vocab_size, spec.context)


def router(spec: TeamSpec, *experts: serve.Application) -> serve.Application:
    """The router; as many answers as the base has slots."""
    base = spec.trained.collaboration.base
    behind = (*spec.trained.collaboration.experts, *spec.guests)
    they_are = [(one.silence_s, one.dtype, one.max_sessions) for one in behind]
    options = {
        **replica_options(base, spec.serving),
        "max_ongoing_requests": base.max_sessions + ROOM_TO_ASK,
        "version": _version(_described(spec), _loaded(base), they_are),
    }
    return _with(Router, options).bind(spec, *experts)


def ingress(spec: TeamSpec, keys: KeyHashes, behind: serve.Application) -> serve.Application:
    """The ingress, which has the base's tokenizer."""
    base = spec.trained.collaboration.base
    options = {
        **_all_have(spec.serving),
        "num_replicas": spec.serving.ingresses,
        "ray_actor_options": ingress_reserved(spec.serving),
        "max_ongoing_requests": ALL,
        "logging_config": ONE_LINE_A_REQUEST,
        "version": _version(
            _described(spec), _loaded(base), spec.serving.model_dump(), sorted(key.hex() for key in keys)
        ),
    }
    return _with(Ingress, options).bind(spec, keys, behind)


def ingress_reserved(serving: ServingConfig) -> dict[str, Any]:
    """What an ingress reserves and where, as the options of a Ray actor."""
    labels = {"label_selector": dict(serving.labels)} if serving.labels else {}
    return {"num_cpus": INGRESS_CPUS, **labels}


def replica_options(config: ModelConfig, serving: ServingConfig) -> dict[str, Any]:
    """What holds for any deployment of a model."""
    scaling = config.autoscaling
    copies: dict[str, Any] = {"num_replicas": config.replicas}
    if scaling is not None:
        copies = {
            "autoscaling_config": {
                "min_replicas": scaling.min,
                "max_replicas": scaling.max,
                "target_ongoing_requests": scaling.sessions,
                "upscale_delay_s": scaling.up_after_s,
                "downscale_delay_s": scaling.down_after_s,
                "downscale_to_zero_delay_s": scaling.to_zero_after_s,
                "look_back_period_s": scaling.average_s,
            }
        }
    if config.max_per_node is not None:
        copies["max_replicas_per_node"] = config.max_per_node
    return {**_all_have(serving), **copies, "ray_actor_options": config.reserved, "logging_config": QUIET}


def _all_have(serving: ServingConfig) -> dict[str, Any]:
    return {
        "health_check_period_s": EVERY_S,
        "health_check_timeout_s": WITHIN_S,
        "graceful_shutdown_timeout_s": serving.drain_s,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": 100 if serving.surge else 0,
        "max_constructor_retry_count": 1,  # a model that could not be loaded cannot be loaded the next time
    }


def _with(deployment: Any, options: dict[str, Any]) -> Any:
    """Lets us say what a deployment's version is, so that deploying again starts only those anew that have changed.

    Serve keeps that to itself (`_internal`); without it every deployment would start anew.
    """
    return deployment.options(**options, _internal=True)


def _loaded(config: ModelConfig) -> object:
    """What a replica's process is made of; how many there are, and where, Serve changes by itself."""
    return config.model_dump(mode="json", exclude=NOT_LOADED), weights_stamp(config)


def _described(spec: TeamSpec) -> object:
    """What router and ingress know of the collaboration."""
    heads = [hashlib.sha256(save(one.state_dict())).hexdigest() for one in (spec.trained.head, *spec.heads.values())]
    return spec.name, list(spec.models), heads, spec.trained.calibration, spec.vocab_size, spec.context


def _version(*made_of: object) -> str:
    """Changes where what a deployment is made of does."""
    content = json.dumps([__version__, *made_of], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
