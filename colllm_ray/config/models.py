"""One language model: base or expert."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from colllm_ray.config.section import Labels, Name, Section


class AutoscalingConfig(Section):
    """How many copies serve, by the sessions that they hold."""

    min: int = Field(1, ge=0, description="Copies that always run; 0 stops the last one where nobody asks for it.")
    max: int = Field(ge=1, description="Copies that run at most.")
    sessions: float = Field(gt=0, description="Answers that each copy should hold, on average.")
    up_after_s: float = Field(5.0, ge=0, description="Seconds for which there must be more before a copy is started.")
    down_after_s: float = Field(120.0, ge=0, description="Seconds for which there must be less before one is stopped.")
    to_zero_after_s: float | None = Field(
        None, ge=0, description="The same before the last one is stopped; `down_after_s` by default."
    )
    average_s: float = Field(
        15.0, gt=10, description="Seconds over which sessions are averaged; Serve counts them every ten."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> AutoscalingConfig:
        if self.max < self.min:
            raise ValueError(f"max: {self.max} copies are fewer than min, {self.min}")
        return self


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
    num_gpus: float = Field(
        0.0, ge=0, description="GPUs that Ray reserves for one copy, which is spread over them; 0 runs it on the CPU."
    )
    memory_gib: float | None = Field(None, gt=0, description="Main memory that Ray reserves for one copy, in GiB.")
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="Custom resources of Ray's nodes that one copy takes, by name."
    )
    labels: Labels = Field(
        {},
        description="Labels that a node must have, as Ray's label selectors say it: `ray.io/accelerator-type: H100`, "
        "`ray.io/node-id: ..`, or those of `ray start --labels`; `!value`, `in(a, b)` and `!in(a, b)` work too.",
    )
    replicas: int = Field(1, ge=1, description="Copies of it that serve; or `autoscaling`.")
    autoscaling: AutoscalingConfig | None = Field(None, description="Between how many copies serve, instead.")
    max_per_node: int | None = Field(None, ge=1, description="Copies that serve from one node at most.")
    scorers: int = Field(1, ge=1, description="Copies of it that score, side by side.")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens in one forward pass of its scoring; `scoring.batch_tokens` by default."
    )
    cuda_graphs: bool = Field(True, description="On a GPU, capture forward passes and replay them; a CPU has none.")
    reuse_prefixes: bool = Field(True, description="Keep what ended answers took in, for those that begin alike.")
    max_sessions: int = Field(256, ge=1, description="Answers whose KV cache one serving copy keeps at once.")

    @model_validator(mode="after")
    def _gpus_are_shared_or_whole(self) -> ModelConfig:
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"num_gpus: {self.num_gpus:g} must be a share of one GPU, or whole ones")
        return self

    @model_validator(mode="after")
    def _copies_are_counted_once(self) -> ModelConfig:
        if self.autoscaling is not None and "replicas" in self.model_fields_set:
            raise ValueError("replicas: `autoscaling` says how many there are; leave out one of them")
        return self

    @property
    def device(self) -> str:
        return "cuda" if self.num_gpus > 0 else "cpu"

    @property
    def most_replicas(self) -> int:
        """Copies that serve at the same time."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max

    @property
    def reserved(self) -> dict[str, Any]:
        """What one copy reserves and where, as the options of a Ray actor."""
        options: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        if self.memory_gib is not None:
            options["memory"] = int(self.memory_gib * 2**30)
        if self.resources:
            options["resources"] = dict(self.resources)
        if self.labels:
            options["label_selector"] = dict(self.labels)
        return options


class ExpertConfig(ModelConfig):
    """An expert: a language model with a name, which appears in scores, traces and reports."""

    name: Name = Field(description="What the expert is called.")
    price: float = Field(
        0.0, ge=0, description="Nats by which its log-prob must exceed the base's for training to defer."
    )
    silence_s: float = Field(
        10.0,
        gt=0,
        description="Seconds without a sign of life after which a copy is given up as hung; above its longest step.",
    )
