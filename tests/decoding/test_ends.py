"""Where an answer ends, and its text: models whose next token is known, all loaded into this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from colllm_ray.data.chat import encode_prompt, encode_text
from colllm_ray.data.rows import Message
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.serving.api.answer_text import pieces_of
from tests.collaborations import random_collaboration
from tests.toy_models import CHATML, across, sentencepiece, write_bigram

TURN = ("<|im_start|>", "<|im_end|>")
WORDS = ("▁is", "▁Paris", "▁The", "▁capital", "▁of", "▁France")


def team_of(folder: Path, tokenizer: PreTrainedTokenizerFast, *chains: Sequence[str], ends: object = None) -> Team:
    write_bigram(folder, tokenizer, *chains)
    if ends is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    trained = random_collaboration(lambda _name, _seed: folder, "bigram", ["bigram"])
    width = json.loads((folder / "config.json").read_text())["hidden_size"]
    trained.head.weight = torch.nn.Parameter(torch.zeros(1, width))
    return Team.in_process(trained)


def text(team: Team, prompt: Sequence[int], member: str | None = "base", **request: object) -> str:
    asked = AnswerRequest(tuple(prompt), max_tokens=8, member=member, **request)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(team.spec.trained.collaboration.base)

    async def answer() -> list[WrittenToken]:
        return [token async for token in team.answer(asked)]

    pieces = pieces_of(asyncio.run(answer()), prompt, tokenizer, team.spec.ends(asked))
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("member", ["base", "e0", None])
@pytest.mark.parametrize("ends", [5, [2, 5]])
def test_a_model_folder_says_where_an_answer_ends(member: str | None, ends: object, tmp_path: Path) -> None:
    tokenizer = sentencepiece()
    team = team_of(tmp_path, tokenizer, ["x", "<0x02>", "y", "y"], ends=ends)
    prompt = encode_text("x", tokenizer)
    assert text(team, prompt, member) == ""
    assert text(team, prompt, member, ignore_eos=True) == "\x02yyyyyyy"


def test_an_experts_end_ends_the_answer_of_all_and_its_own_but_not_the_bases(tmp_path: Path) -> None:
    tokenizer = sentencepiece()
    folders = [write_bigram(tmp_path / name, tokenizer, ["x", "z", "y", "y"]) for name in ("base", "expert")]
    (folders[1] / "generation_config.json").write_text(
        json.dumps({"eos_token_id": tokenizer.convert_tokens_to_ids("z")})
    )
    trained = random_collaboration(lambda _name, seed: folders[seed], "bigram", ["bigram"])
    width = json.loads((folders[0] / "config.json").read_text())["hidden_size"]
    trained.head.weight = torch.nn.Parameter(torch.zeros(1, width))
    team, prompt = Team.in_process(trained), encode_text("x", tokenizer)
    assert [text(team, prompt, member) for member in (None, "e0", "base")] == ["", "", "zyyyyyyy"]


@pytest.mark.parametrize("kind", ["plain", "special"])
def test_the_token_that_ends_a_turn_ends_an_answer_and_adds_no_text(kind: str, tmp_path: Path) -> None:
    tokenizer = sentencepiece(template=CHATML, **{kind: TURN})  # type: ignore[arg-type]
    team = team_of(tmp_path, tokenizer, ["\n", "x", "<|im_end|>", "y", "y"])
    assert text(team, encode_prompt([Message(role="user", content="a")], tokenizer)) == "x"


def test_the_first_token_keeps_its_space(tmp_path: Path) -> None:
    tokenizer = sentencepiece(words=WORDS)
    team = team_of(tmp_path, tokenizer, ["▁is", "▁Paris", "</s>", "▁of", "▁France"], ["▁The", "▁capital", "</s>"])
    assert text(team, encode_text("The capital of France is", tokenizer)) == " Paris"
    assert text(team, encode_text("The", tokenizer), ignore_eos=True).startswith(" capital of France")


def test_a_character_over_several_tokens_is_whole(tmp_path: Path) -> None:
    tokenizer = across()
    first, between, _, _, last = tokenizer.convert_ids_to_tokens(tokenizer("éééé")["input_ids"])
    team = team_of(tmp_path, tokenizer, ["a", first, between, last, "</s>"])
    assert text(team, encode_text("a", tokenizer)) == "éé"
