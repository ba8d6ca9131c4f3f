"""The members of a trained collaboration behind their clients, answering requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import torch

from colllm_ray.config import ModelConfig
from colllm_ray.decoding.account import Account
from colllm_ray.decoding.given import given, given_alone
from colllm_ray.decoding.loop import decode, decode_alone
from colllm_ray.decoding.model_client import Member
from colllm_ray.decoding.pace import Pace
from colllm_ray.decoding.run_ahead import decode_ahead
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.stepper import Stepper
from colllm_ray.errors import ColllmError


class Team:
    """Answers requests with clients in the order of the head's choices: the base first."""

    def __init__(self, spec: TeamSpec, clients: Sequence[Member]) -> None:
        self.spec = spec
        self.clients = tuple(clients)
        self._pace = Pace(len(clients) - 1)

    @classmethod
    def in_process(cls, trained: TrainedCollaboration) -> Team:
        """All members loaded into this process."""
        spec = TeamSpec.of(trained)
        experts = [member_stepper(config, spec.vocab_size, spec.context) for config in trained.collaboration.experts]
        return cls(spec, [base_stepper(spec), *experts])

    def answer(self, request: AnswerRequest, account: Account | None = None) -> AsyncGenerator[WrittenToken, None]:
        """The tokens of an answer as they are written, counted in `account`.

        Raises ColllmError where the request cannot be met, ModelFailedError where a model cannot go on.
        """
        terms = Terms(
            max_tokens=self.spec.tokens_left(request),
            end_tokens=frozenset() if request.ignore_eos else self.spec.end_tokens,
            sampling=request.sampling,
            top=request.top,
            masked=self.spec.masked(request.experts),
            needs_all=request.policy == "fail",
        )
        eta = self.spec.eta(request)
        base, *experts = (client.within(request.wait_s) for client in self.clients)
        if request.member is not None:
            author = self.spec.author_of(request.member)
            return decode_alone((base, *experts)[author], author, request.prompt, terms, account)
        if request.run_ahead == "off" or not any(expert.works_beside for expert in experts):
            return decode(base, experts, request.prompt, eta, terms, account)
        return decode_ahead(base, experts, request.prompt, eta, terms, self._pace, account)

    async def given(self, request: AnswerRequest) -> list[WrittenToken]:
        """The prompt of the request, but for its first token, as if it had been written: by whom, how likely.

        Raises ColllmError for a prompt that is too long, ModelFailedError.
        """
        self.spec.check_text(request.prompt)
        clients = [client.within(request.wait_s) for client in self.clients]
        if request.member is not None:
            author = self.spec.author_of(request.member)
            return await given_alone(clients[author], author, request.prompt, request.top)
        masked = self.spec.masked(request.experts)
        return await given(clients, request.prompt, self.spec.eta(request), masked, request.top)


def member_stepper(config: ModelConfig, vocab_size: int, context: int) -> Stepper:
    """An expert's engine, loaded."""
    return _stepper(config, LanguageModel.load(config, vocab_size), context)


def base_stepper(spec: TeamSpec) -> Stepper:
    """The base's engine with the head, loaded. Raises ColllmError where the head is of another width."""
    config, head = spec.trained.collaboration.base, spec.trained.head
    model = LanguageModel.load(config, spec.vocab_size)
    if head.weight.shape[1] != model.hidden_size:
        raise ColllmError(
            f"{config.model}: has hidden states of width {model.hidden_size}, the head is for {head.weight.shape[1]}"
        )
    return _stepper(config, model, spec.context, head.to(model.device))


def _stepper(config: ModelConfig, model: LanguageModel, context: int, head: torch.nn.Module | None = None) -> Stepper:
    static_shapes = config.cuda_graphs and model.device.type == "cuda" and config.num_gpus <= 1  # a graph is of one GPU
    return Stepper(Engine(model, config.max_sessions, context, head, static_shapes, config.reuse_prefixes))
