"""A collaboration as its user describes it: one YAML file, checked field by field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import Field, model_validator
from upath import UPath

from colllm_ray.config.data import DataConfig
from colllm_ray.config.models import ExpertConfig, ModelConfig
from colllm_ray.config.places import adapter_place, beside, deepspeed_content, model_place, source_place
from colllm_ray.config.scoring import ScoringConfig
from colllm_ray.config.section import Name, Section
from colllm_ray.config.section_file import read_section
from colllm_ray.config.serving import ServingConfig
from colllm_ray.config.training import TrainingConfig
from colllm_ray.storage import Where, location

# Names of folders beside the experts' in RUN/scores, and of the base among the members.
RESERVED_NAMES = ("base", "examples", "features", "collaboration")

INGRESS_CPUS = 0.25


class Collaboration(Section):
    """One base, M experts, their data, and how to score, train and serve them."""

    name: Name = Field(description="What the collaboration is called; clients ask for it as their `model`.")
    base: ModelConfig = Field(description="The model whose hidden state decides who writes.")
    experts: tuple[ExpertConfig, ...] = Field(min_length=1, description="The models that it may defer to.")
    data: DataConfig = Field(description="What head, and base, are trained on.")
    context: int | None = Field(
        None, ge=2, description="The longest text, prompt and answer, in tokens; what every member can take by default."
    )
    scoring: ScoringConfig = Field(default=ScoringConfig(), description="How scores are gathered.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="How the head, and the base, are trained.")
    serving: ServingConfig = Field(default=ServingConfig(), description="How it is served over HTTP.")

    @model_validator(mode="after")
    def _expert_names_are_free(self) -> Collaboration:
        seen: set[str] = set()
        for expert in self.experts:
            if expert.name in RESERVED_NAMES or expert.name in seen:
                why = "is taken by another expert" if expert.name in seen else "is reserved"
                raise ValueError(f"the expert name {expert.name!r} {why}; give it another")
            seen.add(expert.name)
        return self

    @model_validator(mode="after")
    def _prices_are_paid(self) -> Collaboration:
        if any(self.prices) and self.training.objective != "marginal":
            raise ValueError(
                f"training.objective: {self.training.objective} knows no prices; leave out the experts' `price`"
            )
        return self

    @property
    def prices(self) -> tuple[float, ...]:
        """Nats that each of the head's choices costs; the base's is free."""
        return (0.0, *(expert.price for expert in self.experts))

    @property
    def members(self) -> dict[str, ModelConfig]:
        """All models by name, in the order of the head's choices: "base" is 0, the experts 1..M."""
        return {"base": self.base, **{expert.name: expert for expert in self.experts}}

    def with_guests(self, guests: Sequence[ExpertConfig]) -> Collaboration:
        """The same with more models behind its experts, which stand in the same places but which no head knows."""
        return self.model_copy(update={"experts": (*self.experts, *guests)})

    @property
    def reserved_cpus(self) -> int:
        """CPUs with which every stage of it fits into a Ray of one node."""
        members = self.members.values()
        serving = sum(config.num_cpus * config.most_replicas for config in members)
        serving += INGRESS_CPUS * self.serving.ingresses
        scoring = sum(config.num_cpus * config.scorers for config in members)
        return math.ceil(max(serving, scoring, self.training.reserved_cpus))

    @classmethod
    def load(cls, path: Where) -> Collaboration:
        """Reads and checks a YAML file; paths in it are relative to its folder and absolute from here on.

        Raises ColllmError that names the file and the field.
        """
        path = location(path)
        return read_section(path, cls)._with_absolute_paths(path)

    def _with_absolute_paths(self, path: UPath) -> Collaboration:
        folder = path.parent

        def resolved(model: Any, where: str) -> Any:
            places: dict[str, str] = {"model": model_place(model.model, folder, f"{path}: {where}.model")}
            if model.adapter is not None:
                places["adapter"] = adapter_place(model.adapter, folder, f"{path}: {where}.adapter")
            return model.model_copy(update=places)

        training = self.training
        if isinstance(source := training.base.deepspeed, str):
            content = deepspeed_content(source, folder, f"{path}: training.base.deepspeed")
            base = training.base.model_copy(update={"deepspeed": content})
            training = training.model_copy(update={"base": base})
        serving = self.serving
        if serving.api_keys is not None:
            serving = serving.model_copy(update={"api_keys": str(beside(folder, serving.api_keys))})
        return self.model_copy(
            update={
                "base": resolved(self.base, "base"),
                "experts": tuple(resolved(expert, f"experts.{i}") for i, expert in enumerate(self.experts)),
                "data": self.data.model_copy(
                    update={
                        split: source_place(source, folder, f"{path}: data.{split}")
                        for split, source in self.data.sources.items()
                    }
                ),
                "training": training,
                "serving": serving,
            }
        )

    def to_yaml(self) -> str:
        """The YAML that `load` reads back as this collaboration."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
