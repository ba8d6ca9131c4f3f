from __future__ import annotations

import pytest

from colllm_ray.data.rows import Row
from colllm_ray.lab.corpus import rows_in_every_form, split_facts
from colllm_ray.lab.recipe import Recipe
from colllm_ray.lab.world import MAKERS, Domain, make_world


def world(facts: int = 60) -> list[Domain]:
    return make_world(tuple(MAKERS), facts, seed=3)


def test_a_seed_makes_one_world() -> None:
    assert world() == world()
    assert make_world(("pharma",), 60, seed=4) != make_world(("pharma",), 60, seed=3)


@pytest.mark.parametrize("domain", world(), ids=lambda domain: domain.name)
def test_entities_are_distinct_and_answers_do_not_name_them(domain: Domain) -> None:
    assert len({fact.entity for fact in domain.facts}) == len(domain.facts) == 60
    for fact in domain.facts:
        for form in domain.forms:
            assert fact.entity in form.ask(fact)
            assert fact.entity not in form.reply(fact)
            assert all(value in form.reply(fact) for value in fact.values)


@pytest.mark.parametrize("domain", world(), ids=lambda domain: domain.name)
def test_no_entity_is_in_two_splits(domain: Domain) -> None:
    splits = split_facts(domain, seed=0)
    entities = [fact.entity for facts in splits.values() for fact in facts]
    assert len(entities) == len(set(entities)) == 60
    assert all(splits.values())


def test_the_shipped_lab_has_fifty_held_out_questions_a_domain() -> None:
    recipe = Recipe()
    for domain in make_world(recipe.domains, recipe.facts, recipe.seed):
        assert len(split_facts(domain, recipe.seed)["test"]) >= 50


def test_products_of_powers_are_right() -> None:
    (math,) = make_world(("math",), 100, seed=1)
    values = set()
    for fact in math.facts:
        product, _, number = fact.entity.partition(" if ")
        letter, base = number.split(" = ")
        factors = [term.split("^") for term in product.split(" * ")]
        assert all(name == letter for name, _ in factors)
        value = int(base) ** sum(int(exponent) for _, exponent in factors)
        assert fact.values == (f"{value}.",)
        values.add(value)
    assert len(values) == 100


def test_the_facts_that_everybody_knows_are_there() -> None:
    facts = {fact.entity: fact.values for domain in world() for fact in domain.facts}
    assert facts["Opdualag"] == ("nivolumab,", "relatlimab.")
    assert facts["a^3 * a^2 if a = 5"] == ("3125.",)
    assert {"cave bear", "giant short-faced bear"} <= set(facts)


def test_rows_are_conversations() -> None:
    domain = world()[0]
    rows = rows_in_every_form(domain, domain.facts[:3])
    assert len(rows) == 6
    assert all(isinstance(row, Row) and row.domain == domain.name for row in rows)


@pytest.mark.parametrize(
    ("domains", "facts", "message"),
    [(("cats",), 10, "unknown domain 'cats'; there are: pharma"), (("math",), 5000, "'math' has .* at most")],
)
def test_what_no_world_can_have_is_refused(domains: tuple[str, ...], facts: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_world(domains, facts, seed=0)
