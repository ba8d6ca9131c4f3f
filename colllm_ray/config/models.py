"""One language model: base or expert."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from colllm_ray.config.section import Name, Section


class ModelConfig(Section):
    """One language model and what a copy of it needs: the same in scoring and in serving."""

    model: str = Field(
        description="Folder of a Hugging Face model: path relative to the YAML file, or URI; or a hub id `org/name`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit, for a hub id.")
    adapter: str | None = Field(
        None, description="Folder of a LoRA adapter (PEFT), merged into the weights: path or URI, as `model`."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of the weights in memory; `auto` is the one that they are stored in."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Off: refuse it.")
    num_cpus: float = Field(0.5, gt=0, description="CPUs that Ray reserves for one copy.")
    num_gpus: float = Field(0.0, ge=0, le=1, description="GPUs that Ray reserves for one copy; 0 runs it on the CPU.")
    replicas: int = Field(1, ge=1, description="Copies of it that serve.")
    scorers: int = Field(1, ge=1, description="Copies of it that score, side by side.")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens in one forward pass of its scoring; `scoring.batch_tokens` by default."
    )
    cuda_graphs: bool = Field(True, description="On a GPU, capture forward passes and replay them; a CPU has none.")
    reuse_prefixes: bool = Field(True, description="Keep what ended answers took in, for those that begin alike.")
    max_sessions: int = Field(256, ge=1, description="Answers whose KV cache one serving copy keeps at once.")

    @property
    def device(self) -> str:
        return "cuda" if self.num_gpus > 0 else "cpu"


class ExpertConfig(ModelConfig):
    """An expert: a language model with a name, which appears in scores, traces and reports."""

    name: Name = Field(description="What the expert is called.")
    price: float = Field(
        0.0, ge=0, description="Nats by which its log-prob must exceed the base's for training to defer."
    )
