"""Sessions over the link to real Serve replicas: shared, kept, and carried on when a replica dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from colllm_ray.decoding.model_client import ModelClient, News, Session
from colllm_ray.decoding.team import member_stepper
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.stepping import StepTimes
from colllm_ray.serving.application import router_application, running
from colllm_ray.serving.expert_link import ExpertLink
from colllm_ray.serving.router_client import router_client
from tests.collaborations import random_collaboration
from tests.commands import wait_until
from tests.processes import started_processes

ModelFolder = Callable[[str, int], Path]
APPLICATION = "random-router"


@pytest.fixture(scope="module")
def trained(model_folder: ModelFolder) -> TrainedCollaboration:
    return random_collaboration(model_folder, "llama", ["mistral", "qwen3"])


@pytest.fixture(scope="module")
def router(trained: TrainedCollaboration, ray_local: None) -> Iterator[DeploymentHandle]:  # noqa: ARG001
    with running(router_application(TeamSpec.of(trained)), APPLICATION) as handle:
        yield router_client(handle)


@pytest.fixture
def expert(router: DeploymentHandle) -> DeploymentHandle:  # noqa: ARG001 (it has to run)
    return serve.get_deployment_handle("Expert-e0", APPLICATION)


def times(expert: DeploymentHandle) -> StepTimes:
    result: StepTimes = expert.times.remote().result()
    return result


def replicas(expert: str) -> list[int]:
    """Process ids."""
    return [process.pid for process in started_processes(f"{APPLICATION}:Expert-{expert}")]


async def said(session: Session, text: list[int], news: News) -> int:
    session.ask(text)
    while True:
        await news.wait()
        for _, choice in session.take(text):
            return choice.token


async def all_said(client: ModelClient, texts: Sequence[list[int]]) -> list[int]:
    """What comes after each of the texts, asked at once, each in a session of its own."""

    async def one(text: list[int]) -> int:
        news = News()
        with Session(client, None, news.tell) as session:
            return await said(session, text, news)

    return list(await asyncio.gather(*map(one, texts)))


def test_questions_of_different_answers_join_one_step(expert: DeploymentHandle, trained: TrainedCollaboration) -> None:
    texts = [[5 + i, 6, 7 + i] for i in range(12)]

    async def run() -> tuple[list[int], list[int]]:
        link = ExpertLink(expert)
        await all_said(link, texts)  # opens the leases
        return await all_said(link, texts), await all_said(
            member_stepper(trained.collaboration.experts[0], 300, 64),
            texts,
        )

    before = times(expert)
    served, local = asyncio.run(run())
    assert served == local
    after = times(expert)
    assert after.steps - before.steps < 12 + 12


def test_a_session_survives_the_restart_of_its_only_replica(
    expert: DeploymentHandle, trained: TrainedCollaboration
) -> None:
    async def run() -> None:
        link, news = ExpertLink(expert), News()
        alone = member_stepper(trained.collaboration.experts[0], 300, 64)
        text = [5, 6, 7]
        with Session(link, None, news.tell) as session, Session(alone, None, news.tell) as other:
            for round_ in range(3):
                token = await said(session, text, news)
                assert token == await said(other, text, news)
                text.append(token)
                if round_ == 0:
                    (replica,) = replicas("e0")
                    os.kill(replica, signal.SIGKILL)

    asyncio.run(run())


def test_a_stream_gives_the_tokens_of_the_whole_answer(router: DeploymentHandle) -> None:
    request = AnswerRequest((5, 6), max_tokens=50, eta=0.3)
    whole = router.answer.remote(request).result()
    chunks = list(router.options(stream=True).stream.remote(request))
    streamed = [token for chunk in chunks for token in chunk.tokens]
    assert [(t.token, t.author) for t in streamed] == [(t.token, t.author) for t in whole.tokens]
    assert min(whole.passes) > 0
    assert whole.seconds > 0
    assert [len(chunk.calls) for chunk in chunks] == [3] * len(chunks)
    assert min(chunks[-1].calls) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_when_its_caller_leaves(router: DeploymentHandle, stream: bool) -> None:
    def tokens() -> int:
        taken_in: int = times(router).tokens
        return taken_in

    length, before = 50, tokens()
    client = router.options(stream=stream, method_name="stream" if stream else "answer")
    responses = [client.remote(AnswerRequest((5, 6 + i), max_tokens=length, eta=1.0)) for i in range(48)]
    wait_until(lambda: tokens() > before + 30, "the answers")
    for response in responses:
        response.cancel()

    def at_rest() -> bool:
        """Also once every answer is whole."""
        seen = tokens()
        time.sleep(0.5)
        return tokens() == seen

    wait_until(at_rest, "the end of the answers")
    assert tokens() < before + len(responses) * length


def test_experts_let_the_base_go_first(router: DeploymentHandle) -> None:  # noqa: ARG001 (it has to run)
    def niceness(deployment: str) -> int:
        """Of the thread that yields most."""
        (process,) = started_processes(f"{APPLICATION}:{deployment}")
        return max(os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads())

    assert niceness("Expert-e0") == niceness("Expert-e1") > niceness("Router")


def test_a_lease_ends_when_nobody_needs_the_expert(expert: DeploymentHandle) -> None:
    async def run() -> None:
        link = ExpertLink(expert)
        await all_said(link, [[5, 6]])
        (connection,) = [await task for task in link._leases._connections.values()]
        leases = link._leases._idle
        assert len(leases) == 1
        async with asyncio.timeout(20):
            while leases:
                await asyncio.sleep(0.05)
        assert not connection.closed

    asyncio.run(run())
