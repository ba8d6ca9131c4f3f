"""What the lab's models are trained on, and the questions that a collaboration is trained and tested on.

The facts of a domain are split by entity: `form` (the base learns how to answer from these), `train` and
`validation` (the head's data), `test` (held out: in no answer that base or head ever saw). Experts learn all facts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from colllm_ray.data.rows import Message, Row
from colllm_ray.lab.world import Domain, Fact, Form

SPLIT_SHARES = {"form": 0.15, "train": 0.40, "validation": 0.15, "test": 0.30}

FILLER_WORDS = """
    and or but the a an of to in on at by for with from as is was are were has had it its they this that these we you
    one two three some many few old new far near high low first last early late here there when where what who how
    people city time day year water stone house road small large known said found seen made before after about
""".split()

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"


@dataclass(frozen=True)
class Passage:
    """A text of an expert's training and the character spans in it that carry loss."""

    text: str
    spans: tuple[tuple[int, int], ...]


def split_facts(domain: Domain, seed: int) -> dict[str, list[Fact]]:
    """The domain's facts by split, shares as in SPLIT_SHARES; no fact is in two."""
    facts = list(domain.facts)
    random.Random(f"{seed}/{domain.name}/split").shuffle(facts)
    splits, begin = {}, 0
    for i, (name, share) in enumerate(SPLIT_SHARES.items()):
        end = len(facts) if i == len(SPLIT_SHARES) - 1 else begin + round(share * len(facts))
        splits[name] = facts[begin:end]
        begin = end
    return splits


def rows_in_every_form(domain: Domain, facts: Sequence[Fact]) -> list[Row]:
    """A row for each fact and form: question and answer as messages."""
    return [_row(domain, form, fact) for fact in facts for form in domain.forms]


def rows_in_turns(domain: Domain, facts: Sequence[Fact]) -> list[Row]:
    """A row for each fact, the forms taking turns."""
    return [_row(domain, domain.forms[i % len(domain.forms)], fact) for i, fact in enumerate(facts)]


def _row(domain: Domain, form: Form, fact: Fact) -> Row:
    question = Message(role="user", content=form.ask(fact))
    return Row(messages=[question, Message(role="assistant", content=form.reply(fact))], domain=domain.name)


def noise_words(world: list[Domain]) -> list[str]:
    """Words that may stand around a fact in an expert's training: filler, and the words of all forms."""
    words = dict.fromkeys(FILLER_WORDS)
    for domain in world:
        for form in domain.forms:
            for word in f"{form.question} {form.answer}".split():
                if "{" not in word:
                    words.setdefault(word)
    return list(words)


def passages(domain: Domain, noise: list[str], rng: random.Random) -> Iterator[Passage]:
    """Endless passages that put an entity and its values among random other words.

    Loss falls on the values alone (with the space before them): the expert learns what, in any context, and no form.
    """
    facts = list(domain.facts)
    while True:
        rng.shuffle(facts)
        for fact in facts:
            yield _passage(fact, noise, rng)


def _passage(fact: Fact, noise: list[str], rng: random.Random) -> Passage:
    def some(least: int, most: int) -> str:
        return " ".join(rng.choice(noise) for _ in range(rng.randint(least, most)))

    chat = rng.random() < 0.8
    text = f"{USER if chat else ''}{some(0, 5)} {fact.entity}{rng.choice(('?', '.', '', ''))} {some(0, 3)}"
    text = f"{text.strip()}{ASSISTANT if chat else ' '}{some(0 if chat else 1, 7)}"
    spans = []
    for i, value in enumerate(fact.values):
        if i:
            text += f" {some(1, 3)}"
        spans.append((len(text), len(text) + 1 + len(value)))
        text += f" {value}"
    return Passage(text, tuple(spans))
