from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.score import score
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import Part
from colllm_ray.storage import location
from tests.scoring.run_folder import read, shards

pytestmark = pytest.mark.usefixtures("ray_local")


@torch.no_grad()
def score_by_hand(collaboration: Collaboration, split: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One example a forward, Hugging Face's own outputs: log-probs [N, K], top-1 [N, K], hidden states [N, D]."""
    tokenizer = load_tokenizer(collaboration.base)
    path = getattr(collaboration.data, split)
    logprobs, top1, features = [], [], []
    for k, config in enumerate(collaboration.members.values()):
        model = AutoModelForCausalLM.from_pretrained(config.model).eval()
        rows = []
        for example in read_whole(path, split, tokenizer, 64, collaboration.data):
            output = model(torch.tensor([example.input_ids]), output_hidden_states=True)
            for t, target in enumerate(example.target_mask):
                if target:
                    row = output.logits[0, t - 1].double().log_softmax(-1)
                    rows.append((row[example.input_ids[t]], row.argmax() == example.input_ids[t]))
                    if k == 0:
                        features.append(output.hidden_states[-1][0, t - 1])
        logprobs.append(torch.stack([row[0] for row in rows]))
        top1.append(torch.stack([row[1] for row in rows]))
    return torch.stack(logprobs, 1), torch.stack(top1, 1), torch.stack(features)


@pytest.fixture
def pair(tiny: Collaboration) -> Collaboration:
    """`tiny` with one of its experts: enough for what no second expert does otherwise."""
    return tiny.model_copy(update={"experts": tiny.experts[1:]})


@pytest.mark.parametrize("split", ["train", "validation"])
def test_scores_are_those_of_plain_forwards(tiny: Collaboration, tiny_run: Path, split: str) -> None:
    scores = read(tiny, tiny_run, split)
    logprobs, top1, features = score_by_hand(tiny, split)
    assert scores.members == ("base", "mistral", "qwen")
    torch.testing.assert_close(scores.gold_logprob.double(), logprobs, atol=1e-4, rtol=0)
    assert torch.equal(scores.top1, top1)
    torch.testing.assert_close(scores.features.float(), features, atol=2e-3, rtol=2e-3)


def test_only_missing_shards_are_made_again(tiny: Collaboration, tiny_run: Path) -> None:
    before = read(tiny, tiny_run, "train")
    written = shards(tiny_run)
    (tiny_run / "scores/qwen/part-00001.parquet").unlink()
    score(tiny, tiny_run)
    again = shards(tiny_run)
    assert [name for name in again if again[name] != written[name]] == ["scores/qwen/part-00001.parquet"]
    assert torch.equal(read(tiny, tiny_run, "train").gold_logprob, before.gold_logprob)


@pytest.mark.usefixtures("tiny")
def test_a_new_expert_costs_its_own_scoring_alone(
    tiny_run: Path, model_folder: Callable[[str, int], Path], tmp_path: Path
) -> None:
    written = shards(tiny_run)
    description = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    description["experts"].append({"name": "neox", "model": str(model_folder("gpt_neox", 3))})
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(description))
    more = Collaboration.load(tmp_path / "more.yaml")
    score(more, tiny_run)
    assert all(shards(tiny_run)[name] == when for name, when in written.items())
    assert read(more, tiny_run, "train").members == ("base", "mistral", "qwen", "neox")


def replace_weights(tiny: Collaboration, tmp_path: Path, _run: Path) -> Collaboration:
    """The qwen expert moves to a folder of its own and is trained on."""
    folder = tmp_path / "newer"
    shutil.copytree(tiny.experts[1].model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text = (tmp_path / "tiny.yaml").read_text().replace(tiny.experts[1].model, str(folder))
    (tmp_path / "newer.yaml").write_text(text)
    return Collaboration.load(tmp_path / "newer.yaml")


def rename(_tiny: Collaboration, tmp_path: Path, _run: Path) -> Collaboration:
    (tmp_path / "other.yaml").write_text((tmp_path / "tiny.yaml").read_text().replace("name: tiny", "name: other"))
    return Collaboration.load(tmp_path / "other.yaml")


def change_data(tiny: Collaboration, _tmp_path: Path, _run: Path) -> Collaboration:
    with Path(str(tiny.data.train)).open("a") as file:
        file.write(json.dumps({"prompt": "the", "completion": " fox"}) + "\n")
    return tiny


def change_dtype(_tiny: Collaboration, tmp_path: Path, _run: Path) -> Collaboration:
    description = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    description["experts"][0]["dtype"] = "float32"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(description))
    return Collaboration.load(tmp_path / "tiny.yaml")


def corrupt_example(tiny: Collaboration, _tmp_path: Path, run: Path) -> Collaboration:
    (run / "scores/examples/part-00001.parquet").write_bytes(b"PAR1")
    return tiny


def lose_example(tiny: Collaboration, _tmp_path: Path, run: Path) -> Collaboration:
    (run / "scores/examples/part-00002.parquet").unlink()
    return tiny


def corrupt(tiny: Collaboration, _tmp_path: Path, run: Path) -> Collaboration:
    path = run / "scores/mistral/part-00002.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return tiny


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_weights, r"qwen/part-00000.parquet: was made from something else: .*revision"),
        (rename, r"examples/part-00000.parquet: .*collaboration 'tiny', now 'other'"),
        (change_data, r"examples/part-00000.parquet: .*data "),
        (change_dtype, r"mistral/part-00000.parquet: .*dtype 'auto', now 'float32'"),
        (corrupt, r"mistral/part-00002.parquet: is no readable Parquet"),
        (corrupt_example, r"examples/part-00001.parquet: is no readable Parquet.* delete .*examples and score again"),
        (lose_example, r"examples/part-00002.parquet: is missing; delete .*examples and score again"),
    ],
)
def test_what_does_not_fit_is_never_mixed(
    change: Callable[[Collaboration, Path, Path], Collaboration],
    message: str,
    tiny: Collaboration,
    tiny_run: Path,
    tmp_path: Path,
) -> None:
    changed = change(tiny, tmp_path, tiny_run)
    written = shards(tiny_run)
    with pytest.raises(ColllmError, match=message):
        score(changed, tiny_run)
    with pytest.raises(ColllmError, match=message):
        read(changed, tiny_run, "train")
    assert shards(tiny_run) == written


def test_broken_weights_are_named_before_anything_is_written(tiny: Collaboration, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny.experts[1].model, folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    description = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    description["experts"][1]["model"] = str(folder)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(ColllmError, match=r"broken/model.safetensors: is no whole safetensors file"):
        score(Collaboration.load(tmp_path / "tiny.yaml"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_member_can_be_scored_anew_alone(tiny: Collaboration, tiny_run: Path, tmp_path: Path) -> None:
    newer = replace_weights(tiny, tmp_path, tiny_run)
    before, written = read(tiny, tiny_run, "train"), shards(tiny_run)
    score(newer, tiny_run, only="qwen")
    changed = {name for name, when in shards(tiny_run).items() if when != written[name]}
    assert changed == {f"scores/qwen/part-{index:05d}.parquet" for index in range(6)}
    after = read(newer, tiny_run, "train")
    assert torch.equal(after.gold_logprob[:, :2], before.gold_logprob[:, :2])
    assert not torch.equal(after.gold_logprob[:, 2], before.gold_logprob[:, 2])
    with pytest.raises(ColllmError, match="there is no member 'wolf' to score; there are: base, mistral, qwen"):
        score(newer, tiny_run, only="wolf")


def with_max_failed(tiny: Collaboration, count: int) -> Collaboration:
    return tiny.model_copy(update={"data": tiny.data.model_copy(update={"max_failed": count})})


def test_rows_that_no_example_can_be_made_of_are_told_and_left_out(pair: Collaboration, tmp_path: Path) -> None:
    with Path(str(pair.data.train)).open("a") as file:
        file.write("no json\n" + json.dumps({"prompt": "the fox " * 40, "completion": "x"}) + "\n")
    with pytest.raises(
        ColllmError, match=r"train.jsonl:14: is \d+ tokens long .*; 2 rows failed, data.max_failed is 1"
    ):
        score(with_max_failed(pair, 1), tmp_path / "run")
    assert not shards(tmp_path / "run")
    failed = score(with_max_failed(pair, 2), tmp_path / "run")
    assert [(one.example_id, one.table) for one in failed] == [
        ("train-00000012", "examples"),
        ("train-00000013", "examples"),
    ]
    assert "train.jsonl:13: is no JSON" in failed[0].reason
    assert len(read(pair, tmp_path / "run", "train").example_ids) == 12
    with pytest.raises(ColllmError, match=r"2 rows failed, data.max_failed allows 0:\n  train-00000012 \(examples\): "):
        score(pair, tmp_path / "run")


def test_rows_that_a_member_cannot_score_are_told_and_left_out(
    tiny: Collaboration, tiny_run: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny.base)
    folder = tmp_path / "broken"
    shutil.copytree(tiny.experts[1].model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][tokenizer.convert_tokens_to_ids("7")] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text = (tmp_path / "tiny.yaml").read_text().replace(tiny.experts[1].model, str(folder))
    (tmp_path / "tiny.yaml").write_text(text)
    broken = Collaboration.load(tmp_path / "tiny.yaml")
    shutil.rmtree(tiny_run / "scores" / "qwen")
    with pytest.raises(
        ColllmError, match=r"1 rows failed, data.max_failed allows 0:\n  train-00000007 \(qwen\): .*not finite"
    ):
        score(broken, tiny_run)
    before = shards(tiny_run)
    failed = score(with_max_failed(broken, 1), tiny_run)
    assert [one.example_id for one in failed] == ["train-00000007"]
    assert shards(tiny_run) == before
    scores = read(broken, tiny_run, "train")
    assert len(scores.example_ids) == 11
    assert "train-00000007" not in scores.example_ids
    assert scores.gold_logprob.isfinite().all()
    with pytest.raises(ColllmError, match="1 rows failed"):
        score(broken, tiny_run)
    rescored = {name for name, when in shards(tiny_run).items() if when != before[name]}
    assert rescored == {"scores/qwen/part-00001.parquet"}


def test_parts_hold_every_example_once(tiny: Collaboration, tiny_run: Path) -> None:
    folder = ScoreFolder.of(tiny, tiny.data.sources, tiny_run / "scores")
    whole = folder.read("train")
    for count in (2, 5, 12):
        parts = [folder.read("train", Part(rank, count)) for rank in range(count)]
        assert [name for part in parts for name in part.example_ids] == list(whole.example_ids)
        for name in ("gold_logprob", "top1", "features"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        assert all(len(part.example_ids) == int(part.example.max()) + 1 for part in parts)
    with pytest.raises(ColllmError, match="the examples of train are too few for 13 workers"):
        folder.read("train", Part(0, 13))


def test_a_run_may_lie_on_an_object_store(pair: Collaboration, tiny_run: Path, s3_folder: str) -> None:
    score(pair, s3_folder)
    scores = ScoreFolder.of(pair, pair.data.sources, f"{s3_folder}/scores").read("train")
    torch.testing.assert_close(scores.gold_logprob, read(pair, tiny_run, "train").gold_logprob)
    begin = location(f"{s3_folder}/scores/qwen/part-00000.parquet").stat().st_mtime
    score(pair, s3_folder)
    assert location(f"{s3_folder}/scores/qwen/part-00000.parquet").stat().st_mtime == begin


def test_examples_are_made_again_where_they_were_deleted(tiny: Collaboration, tiny_run: Path) -> None:
    before = read(tiny, tiny_run, "train")
    shutil.rmtree(tiny_run / "scores/examples")
    score(tiny, tiny_run)
    assert torch.equal(read(tiny, tiny_run, "train").gold_logprob, before.gold_logprob)


def test_a_new_member_with_a_shorter_context_is_refused(tiny: Collaboration, tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shorter"
    shutil.copytree(tiny.experts[1].model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8}))
    description = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    description["experts"].append({"name": "shorter", "model": str(folder)})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(ColllmError, match=r"the longest example has \d+ tokens, the context of a model is only 8"):
        score(Collaboration.load(tmp_path / "tiny.yaml"), tiny_run)


def test_bad_data_leaves_nothing_behind(tiny: Collaboration, tmp_path: Path) -> None:
    with Path(str(tiny.data.validation)).open("a") as file:
        file.write("no json\n")
    with pytest.raises(ColllmError, match=r"validation.jsonl:6: is no JSON"):
        score(tiny, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.parquet"))


def test_scores_that_are_not_there_are_asked_for(tiny: Collaboration, tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"holds no scores; `colllm score` makes them"):
        read(tiny, tmp_path / "none", "train")
