from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.rivals.hf_generate import generating
from benchmarks.rivals.reference_protocol import decode, reference_servers, seconds_at
from benchmarks.script import Script

PROMPT = [5, 9, 100, 42]


@torch.no_grad()
def brute_force(folders: list[Path], author_of: Callable[[int], int], max_tokens: int) -> list[int]:
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders]
    x = list(PROMPT)
    for _ in range(max_tokens):
        x.append(int(models[author_of(len(x))](torch.tensor([x])).logits[0, -1].argmax()))
    return x[len(PROMPT) :]


def test_reference_protocol_writes_what_the_brute_force_loop_writes(model_folder: Callable[[str, int], Path]) -> None:
    folders = [model_folder("llama", seed) for seed in (0, 1)]
    with reference_servers(folders, threads=1) as urls:
        for frequency in (0, 0.5, 1):
            script = Script(frequency, agreement=0, experts=1, seed=0, spread=False, low=4, high=300)
            answer = decode(urls, PROMPT, script.author, max_tokens=12)
            assert answer.tokens == brute_force(folders, script.author, 12)
            assert len(answer.seconds) == 12
            assert min(answer.seconds) > 0
            text = [*PROMPT, *answer.tokens]
            assert len(seconds_at(urls, text, script.author, range(4, 16, 3))) == 4


def test_reference_server_that_cannot_start_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"nothing: its server did not start"),
        reference_servers([tmp_path / "nothing"], threads=1),
    ):
        pass


def test_hugging_face_generate_is_timed_in_a_process_of_its_own(model_folder: Callable[[str, int], Path]) -> None:
    with generating(model_folder("llama", 0), prompt_tokens=8, threads=1) as generate:
        assert [len(generate(tokens)) for tokens in (2, 6)] == [1, 5]
        assert all(0 < seconds < 1 for seconds in generate(6))
        with pytest.raises(ValueError, match="it is 1"):
            generate(1)
