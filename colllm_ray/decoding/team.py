"""The members of a trained collaboration behind their clients, answering requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

import torch

from colllm_ray.config import ExpertConfig, ModelConfig
from colllm_ray.decoding.account import Account
from colllm_ray.decoding.given import given, given_alone
from colllm_ray.decoding.heads import Heads, OneHead
from colllm_ray.decoding.judged import Judged, judged
from colllm_ray.decoding.known import KnowingClients, Known
from colllm_ray.decoding.loop import decode, decode_alone
from colllm_ray.decoding.model_client import Member, ModelClient
from colllm_ray.decoding.pace import Pace
from colllm_ray.decoding.rivals.choosing import EntropyThreshold
from colllm_ray.decoding.rivals.rule import decode_by
from colllm_ray.decoding.run_ahead import decode_ahead
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import More
from colllm_ray.engine.stepper import Stepper
from colllm_ray.engine.text import Text
from colllm_ray.errors import ColllmError


class Team:
    """Answers requests with clients in the order of the head's choices: the base first, and guests last."""

    def __init__(self, spec: TeamSpec, clients: Sequence[Member]) -> None:
        self.spec = spec
        self.clients = tuple(clients)
        self._choices = len(spec.members)
        self._pace = Pace(self._choices - 1)

    @classmethod
    def in_process(
        cls,
        trained: TrainedCollaboration,
        guests: Sequence[ExpertConfig] = (),
        heads: Mapping[str, DeferralHead] | None = None,
    ) -> Team:
        """All models loaded into this process."""
        spec = TeamSpec.of(trained, guests, heads)
        others = [member_stepper(config, spec.vocab_size, spec.context) for config in list(spec.models.values())[1:]]
        return cls(spec, [base_stepper(spec), *others])

    def answer(self, request: AnswerRequest, account: Account | None = None) -> AsyncGenerator[WrittenToken, None]:
        """The tokens of an answer as they are written, counted in `account`.

        Raises ColllmError where the request cannot be met, ModelFailedError where a model cannot go on.
        """
        terms, clients = self._terms(request), self._clients(request)
        if request.member is not None:
            author = self.spec.author_of(request.member)
            return decode_alone(clients[author], author, request.prompt, terms, account)
        if request.rival is not None:
            members, guests = clients[: self._choices], clients[self._choices :]
            return decode_by(request.rival, members, request.prompt, terms, account, guests)
        eta = self.spec.eta(request)
        base, *experts = clients[: self._choices]
        if request.run_ahead == "off" or not any(expert.works_beside for expert in experts):
            return decode(base, experts, request.prompt, eta, terms, account)
        return decode_ahead(base, experts, request.prompt, eta, terms, self._pace, account)

    async def sweep(self, request: AnswerRequest, etas: Sequence[float], known: Known) -> list[list[WrittenToken]]:
        """The answer at each of these thresholds: those of the plain loop, or of an `EntropyThreshold` as the rival.

        What `known` has is not asked again, and what is asked it learns. Raises as `answer` does.
        """
        terms, clients, rival = self._terms(request), self._clients(request)[: self._choices], request.rival
        if rival is not None and not isinstance(rival, EntropyThreshold):
            raise ColllmError(f"{type(rival).__name__}: has no threshold to sweep")
        answers: dict[float, list[WrittenToken]] = {}
        more: More = "nothing" if rival is None else rival.more
        with KnowingClients(clients, request.prompt, terms, more, known) as (base, *experts):
            for eta in sorted(set(etas), reverse=True):
                if rival is None:
                    answer = decode(base, experts, request.prompt, eta, terms)
                else:
                    answer = decode_by(replace(rival, eta=eta), (base, *experts), request.prompt, terms)
                answers[eta] = [token async for token in answer]
        return [answers[eta] for eta in etas]

    async def judged(self, text: Text) -> Judged:
        """A text's targets under all models and the head. Raises as `answer` does."""
        self.spec.check_text(text.input_ids)
        return await judged([self._head_of(self.clients[0], None), *self.clients[1:]], text)

    async def given(self, request: AnswerRequest) -> list[WrittenToken]:
        """The prompt of the request, but for its first token, as if it had been written: by whom, how likely.

        Raises ColllmError for a prompt that is too long, ModelFailedError.
        """
        self.spec.check_text(request.prompt)
        clients = self._clients(request)
        if request.member is not None:
            author = self.spec.author_of(request.member)
            return await given_alone(clients[author], author, request.prompt, request.top)
        masked = self.spec.masked(request.experts)
        members = clients[: self._choices]
        return await given(members, request.prompt, self.spec.eta(request), masked, request.top)

    def _terms(self, request: AnswerRequest) -> Terms:
        return Terms(
            max_tokens=self.spec.tokens_left(request),
            end_tokens=self.spec.ends(request),
            sampling=request.sampling,
            top=request.top,
            masked=self.spec.masked(request.experts),
            needs_all=request.policy == "fail",
        )

    def _clients(self, request: AnswerRequest) -> list[ModelClient]:
        base, *others = (client.within(request.wait_s) for client in self.clients)
        return [self._head_of(base, request.head), *others]

    def _head_of(self, base: ModelClient, name: str | None) -> ModelClient:
        """The base with the collaboration's own head, or with the one of that name."""
        if not self.spec.heads:
            return base
        names = [None, *self.spec.heads]
        return OneHead(base, names.index(name), self._choices)


def member_stepper(config: ModelConfig, vocab_size: int, context: int) -> Stepper:
    """An expert's engine, loaded."""
    return _stepper(config, LanguageModel.load(config, vocab_size), context)


def base_stepper(spec: TeamSpec) -> Stepper:
    """The base's engine with the head, loaded. Raises ColllmError where the head is of another width."""
    config, head = spec.trained.collaboration.base, spec.trained.head
    heads = (head, *spec.heads.values())
    model = LanguageModel.load(config, spec.vocab_size)
    for one in heads:
        if one.weight.shape != (len(spec.members) - 1, model.hidden_size):
            experts, width = one.weight.shape
            raise ColllmError(
                f"{config.model}: has hidden states of width {model.hidden_size} and {len(spec.members) - 1} experts, "
                f"a head is for {width} and {experts}"
            )
    return _stepper(config, model, spec.context, (Heads(heads) if spec.heads else head).to(model.device))


def _stepper(config: ModelConfig, model: LanguageModel, context: int, head: torch.nn.Module | None = None) -> Stepper:
    static_shapes = config.cuda_graphs and model.device.type == "cuda" and config.num_gpus <= 1  # a graph is of one GPU
    return Stepper(Engine(model, config.max_sessions, context, head, static_shapes, config.reuse_prefixes))
