"""Each rival writes, token for token, what an independent computation does on random models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from colllm_ray.config import ExpertConfig
from colllm_ray.decoding.account import Account
from colllm_ray.decoding.rivals.choosing import EntropyThreshold, Oracle, Random, Surest
from colllm_ray.decoding.rivals.mixing import Average, Compose, Contrastive, Product, ProxyTuning
from colllm_ray.decoding.rivals.rule import Rule
from colllm_ray.decoding.rivals.speculative import Speculative
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.engine.messages import Sampling
from tests.collaborations import random_collaboration
from tests.decoding import brute_rivals as brute
from tests.oracles import load_all

PROMPTS = ((5, 6, 7), (40, 41, 42, 43, 44), (100, 3))
TOKENS = 12
MEMBERS, TUNED = range(3), 3
UNCERTAIN = 0.987  # what about half of the base's uncertainties are above
REFERENCE = (7, 8, 9)


@dataclass(frozen=True)
class Bench:
    """A Llama, two experts and a guest, and the same as plain models."""

    team: Team
    plain: brute.Plain

    def answer(self, request: AnswerRequest, account: Account | None = None) -> list[WrittenToken]:
        async def collected() -> list[WrittenToken]:
            return [token async for token in self.team.answer(request, account)]

        return asyncio.run(collected())


@pytest.fixture(scope="module")
def bench(model_folder: Callable[[str, int], Path]) -> Bench:
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3"])
    guest = ExpertConfig(name="tuned", model=str(model_folder("llama", 7)))
    torch.manual_seed(5)
    other = DeferralHead(32, 2)
    torch.nn.init.normal_(other.weight, std=0.5)
    everyone = replace(trained, collaboration=trained.collaboration.with_guests([guest]))
    plain = brute.Plain(load_all(everyone), trained.head)
    return Bench(Team.in_process(trained, [guest], {"other": other}), plain)


def brute_force(bench: Bench, rule: Rule, prompt: tuple[int, ...]) -> brute.Next:
    plain = bench.plain
    match rule:
        case Oracle(reference=reference):
            return brute.oracle(plain, MEMBERS, reference, len(prompt))
        case Random(shares=shares, seed=seed):
            return brute.dice(plain, shares, seed)
        case Surest():
            return brute.surest(plain, MEMBERS)
        case EntropyThreshold(eta=eta):
            return brute.entropy_threshold(plain, MEMBERS, eta)
        case Compose():
            return brute.compose(plain, MEMBERS)
        case Average():
            return brute.average(plain, MEMBERS)
        case Product():
            return brute.product(plain, MEMBERS)
        case Contrastive(expert=expert, alpha=alpha):
            return brute.contrastive(plain, expert, alpha)
        case ProxyTuning(expert=expert, tuned=tuned):
            return brute.proxy(plain, expert, tuned)
        case Speculative(expert=expert):
            return brute.alone(plain, expert)
    raise AssertionError(rule)


RULES = (
    Random((0.4, 0.3, 0.3), seed=3),
    Surest(),
    EntropyThreshold(0.98),
    EntropyThreshold(UNCERTAIN),
    Compose(),
    Average(),
    Product(),
    Contrastive(expert=1),
    Contrastive(expert=2, alpha=0.5),
    ProxyTuning(expert=2, tuned=TUNED),
    Speculative(expert=1),
    Speculative(expert=2, draft=1),
)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rival_writes_what_brute_force_does(rule: Rule, bench: Bench) -> None:
    for prompt in PROMPTS:
        written = bench.answer(AnswerRequest(prompt, TOKENS, rival=rule))
        (end,) = bench.team.spec.end_tokens
        assert [token.token for token in written] == brute.greedy(brute_force(bench, rule, prompt), prompt, TOKENS, end)


def test_the_oracle_follows_the_reference_as_far_as_anybody_has_it(bench: Bench) -> None:
    (end,) = bench.team.spec.end_tokens
    for prompt in PROMPTS:
        # What some members write in turns, and then a token that nobody does.
        text = list(prompt)
        for k in (0, 2, 1, 0, 2):
            text.append(brute.alone(bench.plain, k)(text))
        reachable = tuple(text[len(prompt) :])
        for reference in (reachable, (*reachable[:3], 299, *reachable[3:]), (299,)):
            rule = Oracle(reference)
            written = bench.answer(AnswerRequest(prompt, TOKENS, rival=rule))
            expected = brute.greedy(brute_force(bench, rule, prompt), prompt, TOKENS, end)
            assert [token.token for token in written] == expected
        written = bench.answer(AnswerRequest(prompt, len(reachable), rival=Oracle(reachable)))
        assert tuple(token.token for token in written) == reachable


def test_who_wrote_and_how_surely_is_told(bench: Bench) -> None:
    prompt = PROMPTS[1]
    surest = bench.answer(AnswerRequest(prompt, TOKENS, rival=Surest(), top=2))
    text = list(prompt)
    for token in surest:
        best = [bench.plain.p(k, text).max() for k in MEMBERS]
        assert token.author == int(torch.stack(best).argmax())
        assert token.logprob == pytest.approx(float(best[token.author].log()), abs=1e-3)
        assert len(token.top) == 2
        text.append(token.token)
    uncertain = bench.answer(AnswerRequest(prompt, TOKENS, rival=EntropyThreshold(UNCERTAIN)))
    assert {token.author > 0 for token in uncertain} == {True, False}
    assert all((token.author > 0) == ((token.p_defer or 0) > UNCERTAIN) for token in uncertain)


def test_passes_are_counted_for_each_model(bench: Bench) -> None:
    def passes(rule: Rule) -> tuple[int, ...]:
        account = Account()
        written = bench.answer(AnswerRequest(PROMPTS[0], TOKENS, rival=rule), account)
        assert len(written) == TOKENS
        return account.passes(4)

    assert passes(Average()) == (TOKENS, TOKENS, TOKENS, 0)
    assert passes(ProxyTuning(expert=2, tuned=TUNED)) == (TOKENS, 0, TOKENS, TOKENS)
    assert sum(passes(Random((0.5, 0.5, 0.0)))) == TOKENS
    base, expert, *others = passes(Speculative(expert=1))
    assert base >= expert
    assert expert <= TOKENS
    assert others == [0, 0]


@pytest.mark.parametrize("rule", [Average(), Compose(), Speculative(expert=1), Surest()], ids=repr)
def test_what_is_drawn_depends_on_the_seed_alone(rule: Rule, bench: Bench) -> None:
    def drawn(seed: int) -> list[int]:
        sampling = Sampling(1.0, seed=seed)
        return [token.token for token in bench.answer(AnswerRequest(PROMPTS[0], TOKENS, rival=rule, sampling=sampling))]

    assert drawn(1) == drawn(1) != drawn(2)
    if isinstance(rule, Speculative):
        sampling = Sampling(1.0, seed=1)
        expert = bench.answer(AnswerRequest(PROMPTS[0], TOKENS, member="e0", sampling=sampling))
        assert drawn(1) == [token.token for token in expert]


def test_a_guest_writes_alone_and_another_head_decides_otherwise(bench: Bench) -> None:
    (end,) = bench.team.spec.end_tokens
    alone = bench.answer(AnswerRequest(PROMPTS[0], TOKENS, member="tuned"))
    assert [t.token for t in alone] == brute.greedy(brute.alone(bench.plain, TUNED), PROMPTS[0], TOKENS, end)
    assert {token.author for token in alone} == {TUNED}
    own, other = (bench.answer(AnswerRequest(PROMPTS[1], TOKENS, eta=0.6, head=head)) for head in (None, "other"))
    assert [token.p_defer for token in own] != [token.p_defer for token in other]
    weights = bench.plain.who(PROMPTS[1])
    assert own[0].p_defer == pytest.approx(1 - weights[0], abs=1e-4)


def test_a_request_is_for_one_way_to_answer() -> None:
    with pytest.raises(ValueError, match="head, experts and eta are the collaboration's"):
        AnswerRequest((5,), rival=Average(), eta=0.5)
    with pytest.raises(ValueError, match="cannot both write"):
        AnswerRequest((5,), rival=Average(), member="base")
