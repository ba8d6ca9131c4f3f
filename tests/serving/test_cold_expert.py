"""An expert that starts when somebody asks for it, and what requests say of waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from colllm_ray.config import AutoscalingConfig
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.serving.application import http_application
from tests.collaborations import random_collaboration

ModelFolder = Callable[[str, int], Path]
NAME, COLD = "cold", "e0"
FIELDS = {"prompt": [5, 6], "max_tokens": 40, "ignore_eos": True}
IMPATIENT = {"threshold": 0.3, "wait_s": 0}


@pytest.fixture(scope="module")
def trained(model_folder: ModelFolder) -> TrainedCollaboration:
    trained = random_collaboration(model_folder, "llama", ["qwen3"])
    (expert,) = trained.collaboration.experts
    cold = expert.model_copy(update={"autoscaling": AutoscalingConfig(min=0, max=1, sessions=4, up_after_s=0)})
    return replace(trained, collaboration=trained.collaboration.model_copy(update={"experts": (cold,)}))


@pytest.fixture(scope="module")
def server(url: str, trained: TrainedCollaboration) -> Iterator[str]:
    serve.run(http_application(TeamSpec.of(trained), frozenset()), name=NAME, route_prefix=f"/{NAME}")
    try:
        yield f"{url}/{NAME}/v1/completions"
    finally:
        serve.delete(NAME)


def test_a_cold_expert_is_waited_for_by_those_who_want_to(server: str, trained: TrainedCollaboration) -> None:
    def ask(**ours: object) -> httpx.Response:
        return httpx.post(server, json={**FIELDS, "colllm": ours}, timeout=120)

    def told(response: httpx.Response) -> Any:
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["colllm"]

    without = told(ask(**IMPATIENT, policy="continue"))
    assert without["lost"] == [COLD]
    assert {token["model"] for token in without["trace"]} == {"base"}
    refused = ask(**IMPATIENT, policy="fail")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_failed")
    assert f"Expert-{COLD}: no replica within" in refused.json()["error"]["message"]

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask, threshold=0.3, policy="fail")
        for _ in range(5):  # of which it holds up none
            assert told(ask(threshold=0.3, experts=[]))["lost"] == []
        assert not waiting.done()
        answer = told(waiting.result())

    async def brute_force() -> list[tuple[int, str]]:
        request = AnswerRequest((5, 6), max_tokens=40, eta=0.3, ignore_eos=True)
        members = list(trained.collaboration.members)
        return [(token.token, members[token.author]) async for token in Team.in_process(trained).answer(request)]

    assert [(token["token"], token["model"]) for token in answer["trace"]] == asyncio.run(brute_force())
    assert answer["lost"] == []
    assert told(ask(**IMPATIENT))["lost"] == []  # it runs now
