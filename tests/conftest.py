"""Toy models, one Ray for the whole session, and the lab with its head trained: made once, used by every room."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
import ray
import s3fs
import torch
import yaml
from hypothesis import settings
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from xdist.remote import Producer

from clusters.local import LocalCluster, Node, running_cluster
from colllm_ray.config import Collaboration, ModelConfig, TrainingConfig
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.lab.collaboration import lab_config
from colllm_ray.lab.tokenizer import train_tokenizer
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from colllm_ray.training.train import train
from tests.commands import free_port, run_colllm, wait_until
from tests.schedule import Scheduling, rank

CONTEXT = 64
SHORT_TRAINING = {"epochs": 2, "weak_epochs": 1, "batch_tokens": 64}
TINY_EXPERTS = {"mistral": "mistral", "qwen": "qwen3"}  # architectures by name

ModelFolder = Callable[[str, int], Path]


class WriteTiny(Protocol):
    def __call__(self, folder: Path, experts: Mapping[str, str] = ...) -> Collaboration: ...


settings.load_profile("ci")  # the same examples in every run, and no deadlines on a shared machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Here and in what tests start: threads that wait for each other crawl where other processes want the cores too."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _s3_address() -> int:
    """Where the S3 of `s3_folder` listens; in the environment before a Ray starts, whose workers inherit it."""
    port = free_port()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="tests",
        AWS_SECRET_ACCESS_KEY="tests",
        AWS_DEFAULT_REGION="us-east-1",
    )
    return port


@pytest.fixture(scope="session")
def _s3_bucket(_s3_address: int) -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(_s3_address)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", _s3_address)) == 0

    try:
        wait_until(answers, "the start of the S3 server")
        s3fs.S3FileSystem().mkdir("tests")
        yield "s3://tests"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3_folder(_s3_bucket: str) -> str:
    """A URI on an S3 that the tests run, its own for each test."""
    return f"{_s3_bucket}/{uuid4().hex}"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the quick brown fox jumps over the lazy dog", "où est le café? 日本語"], vocab_size=300)


def _architectures(vocab_size: int, end: int) -> dict[str, PretrainedConfig]:
    sizes = {"vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape = {**sizes, "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "eos_token_id": end}
    grouped = {**shape, "num_key_value_heads": 2}
    return {
        "llama": LlamaConfig(**grouped, tie_word_embeddings=True),
        "mistral": MistralConfig(**grouped, sliding_window=6),
        "mixtral": MixtralConfig(**grouped, sliding_window=6, num_local_experts=4, num_experts_per_tok=2),
        "qwen2": Qwen2Config(**grouped, use_sliding_window=True, sliding_window=6, max_window_layers=1),
        "qwen3": Qwen3Config(**grouped, head_dim=8),
        "gpt_neox": GPTNeoXConfig(**shape),
    }


ARCHITECTURES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gpt_neox")


@pytest.fixture(scope="session")
def model_folder(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Path]:
    """Folders of tiny models with random weights, by architecture and seed."""
    root = tmp_path_factory.mktemp("models")

    def make(architecture: str, seed: int = 0) -> Path:
        folder = root / f"{architecture}-{seed}"
        if not folder.exists():
            torch.manual_seed(seed)
            # Sharper than the usual start, so that different models have different favourites.
            config = _architectures(len(tokenizer), tokenizer.eos_token_id)[architecture]
            config.initializer_range = 0.3
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def language_model(
    model_folder: Callable[[str, int], Path], tokenizer: PreTrainedTokenizerFast
) -> Callable[[str], LanguageModel]:
    def load(architecture: str) -> LanguageModel:
        return LanguageModel.load(ModelConfig(model=str(model_folder(architecture, 0))), len(tokenizer))

    return load


@pytest.fixture(scope="session")
def lab() -> Collaboration:
    return Collaboration.load(lab_config())


@pytest.fixture(scope="session")
def ray_local(lab: Collaboration) -> Iterator[None]:
    with ray_session(None, lab):
        ray._private.worker._global_node.kill_log_monitor()  # which looks at hundreds of files ten times a second
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Two nodes that ask for their token; one expert has room on the second."""
    with running_cluster([Node("head", 4), Node("experts", 2, {"experts": 1}, {"pool": "experts"})]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """`colllm demo` as a user runs it: its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    status, output = run_colllm("demo", "--out", out)
    assert status == 0, output
    return out, output


@pytest.fixture(scope="session")
def lab_run(demo: tuple[Path, str]) -> Path:
    """A run folder of the lab: scored and trained."""
    return demo[0]


@pytest.fixture(scope="session")
def trained_lab(lab_run: Path) -> TrainedCollaboration:
    return TrainedCollaboration.load(lab_run / "collaboration")


@pytest.fixture(scope="session")
def write_tiny(model_folder: ModelFolder) -> WriteTiny:
    """Writes a collaboration of a Llama and random models of other architectures, and its data, into a folder."""

    def write(folder: Path, experts: Mapping[str, str] = TINY_EXPERTS) -> Collaboration:
        words = ["the quick brown fox", "jumps over", "the lazy dog", "où est le café?"]
        for split, count in (("train", 12), ("validation", 5)):
            rows = [{"prompt": words[i % 4], "completion": f" {words[(i + 1) % 4]} {i}"} for i in range(count)]
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        description = {
            "name": "tiny",
            "base": {"model": str(model_folder("llama", 0))},
            "experts": [
                {"name": name, "model": str(model_folder(architecture, seed))}
                for seed, (name, architecture) in enumerate(experts.items(), start=1)
            ],
            "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
            "scoring": {"batch_tokens": 60, "shard_tokens": 60},
            "training": {"epochs": 12, "weak_epochs": 1, "batch_tokens": 32},
        }
        (folder / "tiny.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
        return Collaboration.load(folder / "tiny.yaml")

    return write


@pytest.fixture
def tiny(write_tiny: WriteTiny, tmp_path: Path) -> Collaboration:
    return write_tiny(tmp_path)


@pytest.fixture(scope="session")
def scored_tiny(
    write_tiny: WriteTiny,
    ray_local: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("scored-tiny")
    score(write_tiny(folder), folder / "run")
    return folder / "run"


@pytest.fixture(scope="session")
def trained_tiny(write_tiny: WriteTiny, scored_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of `tiny` with SHORT_TRAINING: scored, and its head trained."""
    folder = tmp_path_factory.mktemp("trained-tiny")
    shutil.copytree(scored_tiny, folder / "run")
    training = TrainingConfig.model_validate(SHORT_TRAINING)
    train(write_tiny(folder).model_copy(update={"training": training}), folder / "run")
    return folder / "run"


@pytest.fixture
def tiny_run(scored_tiny: Path, tmp_path: Path) -> Path:
    """A run folder that holds the scores of `tiny`, the test's own to change."""
    shutil.copytree(scored_tiny, tmp_path / "run")
    return tmp_path / "run"
