"""A collaboration as its user describes it: one YAML file, checked field by field."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from colllm_ray.errors import ColllmError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]

# Names of folders beside the experts' in RUN/scores, and of the base among the members.
RESERVED_NAMES = ("base", "examples", "features", "collaboration")

INGRESS_CPUS = 0.25


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """One language model and what a copy of it needs: the same in scoring and in serving."""

    model: str = Field(
        description="Folder of a Hugging Face model (relative to the YAML file), or a hub id `org/name`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit, for a hub id.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of the weights in memory; `auto` is the one that they are stored in."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Off: refuse it.")
    num_cpus: float = Field(0.5, gt=0, description="CPUs that Ray reserves for one copy.")
    num_gpus: float = Field(0.0, ge=0, le=1, description="GPUs that Ray reserves for one copy; 0 runs it on the CPU.")
    replicas: int = Field(1, ge=1, description="Copies of it that serve.")
    cuda_graphs: bool = Field(True, description="On a GPU, capture forward passes and replay them; a CPU has none.")
    reuse_prefixes: bool = Field(True, description="Keep what ended answers took in, for those that begin alike.")
    max_sessions: int = Field(256, ge=1, description="Answers whose KV cache one serving copy keeps at once.")

    @property
    def is_local(self) -> bool:
        return Path(self.model).is_absolute()

    @property
    def device(self) -> str:
        return "cuda" if self.num_gpus > 0 else "cpu"


class ExpertConfig(ModelConfig):
    """An expert: a language model with a name, which appears in scores, traces and reports."""

    name: Name = Field(description="What the expert is called.")


class DataConfig(_Section):
    """Where the head's data is: JSONL of {"prompt", "completion"} or {"messages"} rows, `domain` beside them or not."""

    train: str = Field(description="JSONL file that the head is trained on (relative to the YAML file).")
    validation: str = Field(description="JSONL file that measures each epoch and that the threshold is chosen on.")

    @property
    def files(self) -> dict[str, str]:
        """The data files by split."""
        return {"train": self.train, "validation": self.validation}


class ScoringConfig(_Section):
    """How scores are gathered."""

    batch_size: int = Field(32, ge=1, description="Examples in one forward pass.")
    shard_size: int = Field(256, ge=1, description="Examples in one Parquet file: what a kill can cost at most.")


class TrainingConfig(_Section):
    """How the deferral head is trained; the base stays frozen."""

    workers: int = Field(2, ge=1, description="Ray Train workers; each holds its share of the examples.")
    epochs: int = Field(30, ge=1, description="Passes over the target tokens under the marginal likelihood.")
    batch_tokens: int = Field(256, ge=1, description="Target tokens in one step, over all workers.")
    learning_rate: float = Field(1e-2, gt=0, description="AdamW's peak learning rate; it decays to zero as a cosine.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's weight decay.")
    weak_epochs: int = Field(3, ge=0, description="Passes of the weak-supervision start, before the epochs above.")
    seed: int = Field(0, description="Seed of the order of the batches.")

    @property
    def all_epochs(self) -> int:
        """Epochs of both phases."""
        return self.weak_epochs + self.epochs


class Collaboration(_Section):
    """One base, M experts, their data, and how to score, train and serve them."""

    name: Name = Field(description="What the collaboration is called; clients ask for it as their `model`.")
    base: ModelConfig = Field(description="The model whose hidden state decides who writes.")
    experts: tuple[ExpertConfig, ...] = Field(min_length=1, description="The models that it may defer to.")
    data: DataConfig = Field(description="What the head is trained on.")
    context: int | None = Field(
        None, ge=2, description="The longest text, prompt and answer, in tokens; what every member can take by default."
    )
    scoring: ScoringConfig = Field(default=ScoringConfig(), description="How scores are gathered.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="How the head is trained.")

    @model_validator(mode="after")
    def _expert_names_are_free(self) -> Collaboration:
        seen: set[str] = set()
        for expert in self.experts:
            if expert.name in RESERVED_NAMES or expert.name in seen:
                why = "is taken by another expert" if expert.name in seen else "is reserved"
                raise ValueError(f"the expert name {expert.name!r} {why}; give it another")
            seen.add(expert.name)
        return self

    @property
    def members(self) -> dict[str, ModelConfig]:
        """All models by name, in the order of the head's choices: "base" is 0, the experts 1..M."""
        return {"base": self.base, **{expert.name: expert for expert in self.experts}}

    @property
    def reserved_cpus(self) -> int:
        """CPUs with which every stage of it fits into a Ray of one node."""
        serving = INGRESS_CPUS + sum(config.num_cpus * config.replicas for config in self.members.values())
        return math.ceil(max(serving, self.training.workers + 1))

    @classmethod
    def load(cls, path: Path | str) -> Collaboration:
        """Reads and checks a YAML file; paths in it are relative to its folder and absolute from here on.

        Raises ColllmError that names the file and the field.
        """
        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ColllmError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ColllmError(f"{path}: is no YAML: {error}") from error
        if not isinstance(content, dict):
            raise ColllmError(f"{path}: must hold the fields of a collaboration: {_fields(cls)}")
        try:
            collaboration = cls.model_validate(content)
        except ValidationError as error:
            raise ColllmError(_explain(path, error)) from error
        return collaboration._with_absolute_paths(path)

    def _with_absolute_paths(self, path: Path) -> Collaboration:
        folder = path.resolve().parent

        def resolved(model: Any, where: str) -> Any:
            return model.model_copy(update={"model": _model_location(model.model, folder, f"{path}: {where}.model")})

        return self.model_copy(
            update={
                "base": resolved(self.base, "base"),
                "experts": tuple(resolved(expert, f"experts.{i}") for i, expert in enumerate(self.experts)),
                "data": DataConfig(
                    train=str(folder / Path(self.data.train).expanduser()),
                    validation=str(folder / Path(self.data.validation).expanduser()),
                ),
            }
        )

    def to_yaml(self) -> str:
        """The YAML that `load` reads back as this collaboration."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)


def _model_location(model: str, folder: Path, where: str) -> str:
    local = folder / Path(model).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise ColllmError(f"{where}: the folder {local} holds no model: it has no config.json")
        return str(local.resolve())
    parts = model.split("/")
    if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~"):
        return model
    raise ColllmError(f"{where}: there is no folder {local}, and {model!r} is no hub id (`org/name`)")


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            section = _section_at(problem["loc"][:-1])
            what = f"unknown field; there are: {_fields(section)}"
        lines.append(f"{path}: {field}: {what}" if field else f"{path}: {what}")
    return "\n".join(lines)


def _section_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    sections: dict[str, type[BaseModel]] = {
        "base": ModelConfig,
        "experts": ExpertConfig,
        "data": DataConfig,
        "scoring": ScoringConfig,
        "training": TrainingConfig,
    }
    return sections[str(location[0])] if location else Collaboration


def _fields(section: type[BaseModel]) -> str:
    return ", ".join(section.model_fields)
