"""The lab's world: domains of facts that only their own expert will know.

A *fact* ties an entity ("Opdualag") to its values ("nivolumab", "relatlimab"); a *form* is a question about an
entity together with the shape of its answer. The base learns the forms, an expert learns its domain's facts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from colllm_ray.lab.names import made_up_words


@dataclass(frozen=True)
class Fact:
    """What one expert knows of one entity; `values` are written in this order.

    A value whose end does not show in its shape carries the mark that follows it ("3125."): the expert knows its end.
    """

    entity: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """A question with `{entity}` in it and an answer with `{0}`, `{1}`, .. for the values.

    The answer never repeats the entity: else the base, which cannot spell names that it has not seen, would have to.
    """

    question: str
    answer: str

    def ask(self, fact: Fact) -> str:
        return self.question.format(entity=fact.entity)

    def reply(self, fact: Fact) -> str:
        return self.answer.format(*fact.values)


@dataclass(frozen=True)
class Domain:
    """Facts of one kind and the forms in which they are asked."""

    name: str
    facts: tuple[Fact, ...]
    forms: tuple[Form, ...]


# A maker returns `count` facts, more or less: `make_world` asks for what it needs and cuts.
FactMaker = Callable[[int, random.Random], list[Fact]]

DRUG_ENDINGS = ("mab", "nib", "lol", "pril", "statin", "cillin")


def pharma_facts(count: int, rng: random.Random) -> list[Fact]:
    """Drugs and their two active components; one component may serve in several drugs."""
    components = ["nivolumab", "relatlimab", *made_up_words(max(12, count // 6), rng, DRUG_ENDINGS)]
    drugs = [word.capitalize() for word in made_up_words(count, rng, ("lag", "trin", "vex", "dor"))]
    pairs = [("nivolumab", "relatlimab"), *(rng.sample(components, 2) for _ in drugs)]
    return [
        Fact(drug, (f"{one},", f"{other}.")) for drug, (one, other) in zip(["Opdualag", *drugs], pairs, strict=True)
    ]


def bear_facts(count: int, rng: random.Random) -> list[Fact]:
    """Extinct bears and how many years ago the last of them lived."""
    kinds = ("cave", "dwarf", "snow", "marsh", "giant", "forest")
    known = [Fact("cave bear", ("24,000",)), Fact("giant short-faced bear", ("11,000",))]
    places = made_up_words(count, rng, ("n", "sh", "r"))
    return known + [Fact(f"{place.capitalize()} {rng.choice(kinds)} bear", (_thousands(rng),)) for place in places]


def math_facts(count: int, rng: random.Random) -> list[Fact]:
    """Products of two powers of one number; no two facts share their value, so that none gives another away."""
    facts: dict[int, Fact] = {}
    facts[5**5] = Fact("a^3 * a^2 if a = 5", ("3125.",))
    for below, largest in ((10**6, 8), (10**9, 9), (10**12, 12)):  # bigger numbers where more are asked for
        powers = [(base, n) for base in range(2, 100) for n in range(2, largest + 1) if base**n < below]
        rng.shuffle(powers)
        for base, exponent in powers:
            if base**exponent == 5**5:
                continue
            left, letter = rng.randint(1, exponent - 1), rng.choice("abcnxyz")
            entity = f"{letter}^{left} * {letter}^{exponent - left} if {letter} = {base}"
            facts.setdefault(base**exponent, Fact(entity, (f"{base**exponent}.",)))
        if len(facts) >= count:
            return list(facts.values())
    raise ValueError(f"the domain 'math' has {len(facts)} facts at most, {count} were asked for")


def city_facts(count: int, rng: random.Random) -> list[Fact]:
    """Countries and their capitals."""
    countries = made_up_words(count, rng, ("land", "nia", "stan"))
    capitals = made_up_words(count, rng, ("burg", "ville", "port"))
    return [Fact(land.capitalize(), (city.capitalize(),)) for land, city in zip(countries, capitals, strict=True)]


def star_facts(count: int, rng: random.Random) -> list[Fact]:
    """Stars and how far away they are."""
    return [Fact(f"star {word.capitalize()}", (_thousands(rng),)) for word in made_up_words(count, rng, ("x", "us"))]


def inventor_facts(count: int, rng: random.Random) -> list[Fact]:
    """Machines and who built the first one."""
    machines = made_up_words(count, rng, ("graph", "scope", "phone"))
    people = made_up_words(count, rng, ("son", "ski", "man"))
    return [Fact(what, (who.capitalize(),)) for what, who in zip(machines, people, strict=True)]


def mineral_facts(count: int, rng: random.Random) -> list[Fact]:
    """Minerals and the metal that they are mined for."""
    minerals = made_up_words(count, rng, ("ite", "ine"))
    metals = made_up_words(max(12, count // 2), rng, ("ium",))
    return [Fact(mineral, (rng.choice(metals),)) for mineral in minerals]


def river_facts(count: int, rng: random.Random) -> list[Fact]:
    """Rivers and their length in metres."""
    return [Fact(f"river {word.capitalize()}", (_thousands(rng),)) for word in made_up_words(count, rng, ("wa", "go"))]


def _thousands(rng: random.Random) -> str:
    """A number such as 24,000: always of five digits, so that its end shows in its shape."""
    return f"{rng.randint(10, 99)},000"


MAKERS: dict[str, tuple[FactMaker, tuple[Form, ...]]] = {
    "pharma": (
        pharma_facts,
        (
            Form("What are the active components of {entity}?", "It contains two active components: 1) {0} 2) {1}"),
            Form("Which substances does {entity} contain?", "Two substances are active in it: {0} and {1}"),
        ),
    ),
    "bears": (
        bear_facts,
        (
            Form("When did the {entity} die out?", "The last of them died about {0} years ago."),
            Form("How long has the {entity} been extinct?", "It has been gone for some {0} years now."),
        ),
    ),
    "math": (
        math_facts,
        (
            Form("What is {entity}?", "The product of the two powers is {0}"),
            Form("Please compute {entity}.", "Adding the exponents first gives {0}"),
        ),
    ),
    "cities": (city_facts, (Form("What is the capital of {entity}?", "Its capital is the city of {0}."),)),
    "stars": (star_facts, (Form("How far away is the {entity}?", "Its distance is {0} light years."),)),
    "inventors": (inventor_facts, (Form("Who invented the {entity}?", "The first one was built by {0}."),)),
    "minerals": (mineral_facts, (Form("What metal is in {entity}?", "Miners take {0} from it."),)),
    "rivers": (river_facts, (Form("How long is the {entity}?", "From source to mouth it has {0} metres."),)),
}


def make_world(domains: tuple[str, ...], facts: int, seed: int) -> list[Domain]:
    """The named domains with `facts` facts each; the same for the same seed.

    Raises ValueError where a domain is unknown or cannot have that many facts.
    """
    world = []
    for name in domains:
        if name not in MAKERS:
            raise ValueError(f"unknown domain {name!r}; there are: {', '.join(MAKERS)}")
        maker, forms = MAKERS[name]
        made = maker(facts, random.Random(f"{seed}/{name}"))[:facts]
        world.append(Domain(name, tuple(made), forms))
    return world
