"""How the head is trained, and the base where it learns too."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from colllm_ray.config.section import Section


class LoraConfig(Section):
    """The low-rank adapter of mode `lora`."""

    rank: int = Field(16, ge=1, description="Rank of each adapter.")
    alpha: int = Field(32, gt=0, description="Adapters are scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before each adapter.")
    targets: tuple[str, ...] = Field(
        (), description="Names of the layers that get one, such as q_proj; all linear ones of the base by default."
    )


class BaseTrainingConfig(Section):
    """How the base learns with the head, in the modes `lora` and `full`, after the head was fitted without it."""

    epochs: int = Field(1, ge=1, description="Passes over the examples.")
    batch_size: int = Field(16, ge=1, description="Examples in one step, over all workers.")
    micro_batch_size: int = Field(2, ge=1, description="Examples in one forward pass of a worker.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak of the base; by default 2e-5 in mode `full`, 2e-4 in mode `lora`."
    )
    head_learning_rate: float = Field(1e-3, gt=0, description="Peak of the head.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    warmup: float = Field(
        0.03, ge=0, lt=1, description="Share of the steps in which learning rates rise; then they fall as a cosine."
    )
    gradient_clipping: float = Field(1.0, ge=0, description="Largest norm of a step's gradient; 0 is no limit.")
    gradient_checkpointing: bool = Field(
        False, description="Keep few activations and compute the others again: slower, in less memory."
    )
    num_cpus: float = Field(
        1.0,
        gt=0,
        description="CPUs that Ray reserves for a worker, and so its threads: for training on CPUs, and for offload.",
    )
    num_gpus: int = Field(0, ge=0, le=1, description="GPUs that Ray reserves for a worker; 0 trains on CPUs.")
    checkpoint_steps: int = Field(
        500, ge=1, description="Steps between two checkpoints; each epoch ends with one as well."
    )
    deepspeed: str | dict[str, Any] | None = Field(
        None,
        description="DeepSpeed's own configuration: a JSON file (path relative to the YAML file, or URI) or its "
        'content; where it says "auto", the fields above say what. By default training/deepspeed_default.json.',
    )
    lora: LoraConfig = Field(default=LoraConfig(), description="The adapter, in mode `lora`.")


class TrainingConfig(Section):
    """What is trained, for what, and how; the head's own fields come first."""

    mode: Literal["frozen", "lora", "full"] = Field(
        "frozen", description="Whether the base learns too: not at all, through a low-rank adapter, or all its weights."
    )
    objective: Literal["marginal", "weak", "finetune"] = Field(
        "marginal",
        description="What is made small. `marginal`: minus the log-likelihood of the text under all members together, "
        "which is Co-LLM. Its rivals: `weak`, cross-entropy to guessed authors (and, where the base learns, its own "
        "cross-entropy); `finetune`, the base's own cross-entropy, without experts.",
    )
    workers: int = Field(2, ge=1, description="Ray Train workers; each holds its share of the examples.")
    epochs: int = Field(30, ge=1, description="The head's passes over the target tokens.")
    batch_tokens: int = Field(256, ge=1, description="Target tokens in one step of the head, over all workers.")
    learning_rate: float = Field(1e-2, gt=0, description="Peak of the head; it decays to zero as a cosine.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's weight decay of the head.")
    weak_epochs: int = Field(3, ge=0, description="Passes of the weak-supervision start, before the epochs above.")
    seed: int = Field(0, ge=0, description="Seed of the order of the examples, of dropout, and of a new adapter.")
    max_failures: int = Field(
        3,
        ge=0,
        description="How often a call starts the workers again, from the last checkpoint.",
    )
    base: BaseTrainingConfig = Field(
        default=BaseTrainingConfig(), description="How the base learns, in the modes `lora` and `full`."
    )

    @model_validator(mode="after")
    def _fields_fit_the_mode(self) -> TrainingConfig:
        if self.mode == "frozen" and "base" in self.model_fields_set:
            raise ValueError("base: the base does not learn in mode frozen; set `mode: lora` or `mode: full`")
        if self.mode == "frozen" and self.objective == "finetune":
            raise ValueError("objective: finetune trains the base alone; set `mode: lora` or `mode: full`")
        if self.mode == "full" and "lora" in self.base.model_fields_set:
            raise ValueError("base.lora: mode full trains all weights, without an adapter; set `mode: lora`")
        return self

    @property
    def all_epochs(self) -> int:
        """The head's epochs, of both phases."""
        return self.weak_epochs + self.epochs

    @property
    def reserved_cpus(self) -> float:
        """CPUs that Ray reserves for a run, its controller included."""
        return 1 + self.workers * (1.0 if self.mode == "frozen" else max(1.0, self.base.num_cpus))

    @property
    def base_learning_rate(self) -> float:
        """The base's peak learning rate."""
        return self.base.learning_rate or {"full": 2e-5, "lora": 2e-4}[self.mode]
