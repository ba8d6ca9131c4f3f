from __future__ import annotations

import json
from pathlib import Path

import pytest

from colllm_ray.config import Collaboration
from colllm_ray.data.tokenizer import shared_tokenizer
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.errors import ColllmError
from colllm_ray.lab.build import build_lab, write_data
from colllm_ray.lab.collaboration import SHIPPED
from colllm_ray.lab.recipe import Recipe, Shape
from colllm_ray.lab.world import make_world

SMALL = Recipe(
    domains=("minerals", "stars"),
    facts=20,
    vocab_size=400,
    base=Shape(1, 16, heads=2),
    expert=Shape(1, 24, heads=2),
    base_steps=3,
    expert_steps=3,
    batch_size=4,
)


def test_a_lab_of_other_domains_and_sizes_is_built_from_its_seed(tmp_path: Path) -> None:
    build_lab(tmp_path / "one", SMALL)
    build_lab(tmp_path / "two", SMALL)
    collaboration = Collaboration.load(tmp_path / "one" / "lab.yaml")
    assert list(collaboration.members) == ["base", "minerals", "stars"]
    tokenizer = shared_tokenizer(collaboration)
    assert [LanguageModel.load(m, len(tokenizer)).hidden_size for m in collaboration.members.values()] == [16, 24, 24]
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes(), path
    rows = [json.loads(line) for line in (tmp_path / "one" / "test.jsonl").read_text().splitlines()]
    assert {row["domain"] for row in rows} == {"minerals", "stars"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match="is there already"):
        build_lab(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(domains=("cats",)), "unknown domain 'cats'"),
        (Recipe(facts=3), "3 facts are too few: pharma has none for form"),
        (Recipe(domains=("rivers",), facts=100_000), "100000 words were asked for; at most"),
    ],
)
def test_a_recipe_that_cannot_be_met_leaves_nothing_behind(recipe: Recipe, message: str, tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=message):
        build_lab(tmp_path / "lab", recipe)
    assert not list(tmp_path.iterdir())


def test_the_data_that_ships_is_that_of_the_default_recipe(tmp_path: Path) -> None:
    recipe = Recipe()
    write_data(make_world(recipe.domains, recipe.facts, recipe.seed), recipe, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (SHIPPED / path.name).read_bytes(), path.name


def test_what_ships_is_small_and_of_the_default_recipe() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*.safetensors")) < 6_000_000
    recipe = json.loads((SHIPPED / "recipe.json").read_text())
    default = json.loads(json.dumps({**vars(Recipe()), "base": vars(Shape(2, 96)), "expert": vars(Shape(3, 128))}))
    assert recipe == default
