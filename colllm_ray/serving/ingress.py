"""The HTTP door: owns requests, turns text into tokens and back."""

from __future__ import annotations

import gc

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.serving.api.app import build_app
from colllm_ray.serving.api.door import Door
from colllm_ray.serving.api.keys import KeyHashes
from colllm_ray.serving.metrics import IngressMetrics
from colllm_ray.serving.router_client import router_client
from colllm_ray.serving.started import Started


@serve.deployment
@serve.ingress()
class Ingress:
    """Serves one collaboration, under its name and with each member under NAME/MEMBER."""

    def __init__(self, spec: TeamSpec, keys: KeyHashes, router: DeploymentHandle) -> None:
        self._config = spec.trained.collaboration.serving
        self._keys = keys
        self._metrics = IngressMetrics(spec.name)
        tokenizer = load_tokenizer(spec.trained.collaboration.base)
        started = Started(serve.get_replica_context().app_name)
        self._door = Door(spec, tokenizer, router_client(router), self._config, self._metrics, started)
        gc.collect()
        gc.freeze()  # a full collection, which all streams wait for, looks at nothing that is here to stay

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self._door, self._config, self._keys, self._metrics)
