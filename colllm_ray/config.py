"""A collaboration as its user describes it: one YAML file, checked field by field."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from upath import UPath

from colllm_ray.column_template import ColumnTemplate
from colllm_ray.errors import ColllmError
from colllm_ray.storage import Where, is_local, location

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]

# Names of folders beside the experts' in RUN/scores, and of the base among the members.
RESERVED_NAMES = ("base", "examples", "features", "collaboration")

INGRESS_CPUS = 0.25

PATH, SECTION = "(path)", "(section)"  # the kinds of source, as pydantic names them in the place of an error


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """One language model and what a copy of it needs: the same in scoring and in serving."""

    model: str = Field(
        description="Folder of a Hugging Face model: path relative to the YAML file, or URI; or a hub id `org/name`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit, for a hub id.")
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


class DatasetSource(_Section):
    """A split of a data set that the `datasets` library loads."""

    dataset: str = Field(
        min_length=1, description="Hub id `org/name`, or a folder that `datasets` loads (relative to the YAML file)."
    )
    name: str | None = Field(None, description="The data set's configuration, where it has several.")
    split: str = Field(
        "train", min_length=1, description="Split, or a slice such as `train[:95%]` or `train[100:200]`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit, for a hub id.")


def _kind_of_source(value: object) -> str:
    return PATH if isinstance(value, str) else SECTION


Source = Annotated[
    Annotated[str, Field(min_length=1), Tag(PATH)] | Annotated[DatasetSource, Tag(SECTION)],
    Discriminator(_kind_of_source),
]
"""A file, by path or URI, or a data set."""

RowPart = Literal["prompt", "completion", "messages", "system", "user", "assistant", "domain"]

KINDS_OF_ROW: tuple[frozenset[RowPart], ...] = (
    frozenset({"prompt", "completion"}),
    frozenset({"messages"}),
    frozenset({"user", "assistant"}),
    frozenset({"system", "user", "assistant"}),
)


class DataConfig(_Section):
    """Where the head's data is, and which of its columns are what; `domain` may stand beside each kind of row."""

    train: Source = Field(
        description="What the head is trained on: a data set, or a file (path relative to the YAML file, or URI) that "
        "ends with .jsonl or .json (a row a line; then maybe .gz, .zst or .bz2) or with .parquet."
    )
    validation: Source = Field(
        description="What measures each epoch and what the threshold is chosen on; a file or data set, as `train`."
    )
    columns: dict[RowPart, Annotated[str, Field(min_length=1)]] = Field(
        {},
        description="What the rows call `prompt` and `completion`, or `messages`, or the turns of a conversation, "
        "`user` and `assistant` (and `system`); and `domain`. A column's name, or a template with columns in braces, "
        "such as 'Question: {question}'. Without it rows hold prompt and completion, or messages.",
    )
    loss_on: Literal["all", "last"] = Field(
        "all", description="Which of the assistant's turns in a conversation are learnt."
    )
    max_failed: int = Field(
        0,
        ge=0,
        description="Rows that may fail (unreadable, too long, not scorable) and be left out; one more stops the run.",
    )

    @model_validator(mode="after")
    def _columns_make_a_row(self) -> DataConfig:
        for part, text in self.columns.items():
            try:
                template = ColumnTemplate.parse(text)
            except ValueError as error:
                raise ValueError(f"columns.{part}: {error}") from error
            if part == "messages" and not template.is_column:
                raise ValueError(f"columns.messages: {text!r} is a template; only a column's name is right here")
        parts = set(self.columns) - {"domain"}
        if parts and parts not in KINDS_OF_ROW:
            raise ValueError(
                f"columns: {', '.join(self.columns)} make no row; "
                "right are: prompt, completion; or messages; or user, assistant and maybe system"
            )
        return self

    @property
    def sources(self) -> dict[str, Source]:
        """Where each split is read from."""
        return {"train": self.train, "validation": self.validation}

    @property
    def templates(self) -> dict[RowPart, ColumnTemplate]:
        """`columns`, parsed."""
        return {part: ColumnTemplate.parse(text) for part, text in self.columns.items()}


class ScoringConfig(_Section):
    """How scores are gathered."""

    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens in one forward pass, padding included; a longer text is taken in by parts. By default "
        "8,192 on a GPU, and 1,024 on a CPU, where they stay in its cache.",
    )
    shard_tokens: int = Field(
        65_536, ge=1, description="Tokens in one Parquet file, or one longer text: what a kill can cost each scorer."
    )

    def tokens_for(self, model: ModelConfig) -> int:
        """Tokens in one forward pass of a model."""
        return model.batch_tokens or self.batch_tokens or (1024 if model.device == "cpu" else 8192)


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
        members = self.members.values()
        serving = INGRESS_CPUS + sum(config.num_cpus * config.replicas for config in members)
        scoring = sum(config.num_cpus * config.scorers for config in members)
        return math.ceil(max(serving, scoring, self.training.workers + 1))

    @classmethod
    def load(cls, path: Where) -> Collaboration:
        """Reads and checks a YAML file; paths in it are relative to its folder and absolute from here on.

        Raises ColllmError that names the file and the field.
        """
        path = location(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ColllmError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ColllmError(f"{path}: is no YAML: {error}") from error
        if not isinstance(content, dict):
            raise ColllmError(f"{path}: must hold the fields of a collaboration: {_fields(cls)}")
        try:
            collaboration = cls.model_validate(content)
        except ValidationError as error:
            raise ColllmError(_explain(path, error)) from error
        return collaboration._with_absolute_paths(path)

    def _with_absolute_paths(self, path: UPath) -> Collaboration:
        folder = path.parent

        def resolved(model: Any, where: str) -> Any:
            return model.model_copy(update={"model": _model_location(model.model, folder, f"{path}: {where}.model")})

        return self.model_copy(
            update={
                "base": resolved(self.base, "base"),
                "experts": tuple(resolved(expert, f"experts.{i}") for i, expert in enumerate(self.experts)),
                "data": self.data.model_copy(
                    update={
                        split: _source_location(source, folder, f"{path}: data.{split}")
                        for split, source in self.data.sources.items()
                    }
                ),
            }
        )

    def to_yaml(self) -> str:
        """The YAML that `load` reads back as this collaboration."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)


def _model_location(model: str, folder: UPath, where: str) -> str:
    if not is_local(model):
        return model
    place = _beside(folder, model)
    if place.is_dir():
        if not (place / "config.json").is_file():
            raise ColllmError(f"{where}: the folder {place} holds no model: it has no config.json")
        return str(place.resolve() if is_local(place) else place)
    if _is_hub_id(model):
        return model
    raise ColllmError(f"{where}: there is no folder {place}, and {model!r} is no hub id (`org/name`)")


def _beside(folder: UPath, path: str) -> UPath:
    """What a path in a file of `folder` names."""
    expanded = Path(path).expanduser()
    return UPath(expanded) if expanded.is_absolute() else folder / path


def _source_location(source: Source, folder: UPath, where: str) -> Source:
    if isinstance(source, str):
        return str(_beside(folder, source)) if is_local(source) else source
    local = _beside(folder, source.dataset)
    # An absolute folder may be gone: a trained collaboration serves without its data.
    if local.is_dir() or Path(source.dataset).is_absolute():
        return source.model_copy(update={"dataset": str(local)})
    if _is_hub_id(source.dataset):
        return source
    raise ColllmError(
        f"{where}.dataset: there is no folder {local}, and {source.dataset!r} is no hub id (`org/name`); "
        f"a file is written as `{where.rpartition('.')[2]}: PATH`"
    )


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~")


def _explain(path: UPath, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"] if part not in (PATH, SECTION, "[key]"))
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            section = _section_at(problem["loc"][:-1])
            what = f"unknown field; there are: {_fields(section)}"
        lines.append(f"{path}: {field}: {what}" if field else f"{path}: {what}")
    return "\n".join(lines)


def _section_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    if SECTION in location:
        return DatasetSource
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
