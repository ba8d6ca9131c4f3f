"""The HTTP application in this process, for what is answered without a router: refusals, and the tokenizer's part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from transformers import PreTrainedTokenizerBase

from colllm_ray.config import ServingConfig
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.serving.api.app import build_app
from colllm_ray.serving.api.door import Door
from colllm_ray.serving.metrics import IngressMetrics
from colllm_ray.serving.started import Started
from tests.collaborations import random_collaboration
from tests.toy_models import write_bigram

ModelFolder = Callable[[str, int], Path]
Served = Callable[[Callable[[str, int], Path]], TestClient]


def door_of(folder: ModelFolder) -> Door:
    """Of a collaboration of a Llama and another one; it has no router to ask."""
    trained = random_collaboration(folder, "llama", ["llama"])
    tokenizer = load_tokenizer(trained.collaboration.base)
    metrics = IngressMetrics("tests")
    return Door(TeamSpec.of(trained), tokenizer, cast(Any, None), ServingConfig(), metrics, Started("tests"))


def client_of(folder: ModelFolder) -> TestClient:
    """A client of an application without a router."""
    app = build_app(door_of(folder), ServingConfig(), frozenset(), IngressMetrics("tests"))
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture(scope="session")
def offline(model_folder: ModelFolder) -> TestClient:
    return client_of(model_folder)


@pytest.fixture
def offline_with(tmp_path: Path) -> Callable[[PreTrainedTokenizerBase], TestClient]:
    """Such a client, where the models have this tokenizer."""

    def make(tokenizer: PreTrainedTokenizerBase) -> TestClient:
        def folder(_architecture: str, seed: int) -> Path:
            return write_bigram(tmp_path / str(seed), cast(Any, tokenizer))

        return client_of(folder)

    return make
