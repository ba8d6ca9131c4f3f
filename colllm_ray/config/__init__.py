"""A collaboration as its user describes it: one YAML file, checked field by field.

One file for each section of the YAML; every field says what it means. This room knows no model and no Ray.
"""

from colllm_ray.config.collaboration import INGRESS_CPUS, RESERVED_NAMES, Collaboration
from colllm_ray.config.data import DataConfig, DatasetSource, RowPart, Source
from colllm_ray.config.models import AutoscalingConfig, ExpertConfig, ModelConfig
from colllm_ray.config.scoring import ScoringConfig
from colllm_ray.config.serving import ServingConfig
from colllm_ray.config.training import BaseTrainingConfig, LoraConfig, TrainingConfig

__all__ = [
    "INGRESS_CPUS",
    "RESERVED_NAMES",
    "AutoscalingConfig",
    "BaseTrainingConfig",
    "Collaboration",
    "DataConfig",
    "DatasetSource",
    "ExpertConfig",
    "LoraConfig",
    "ModelConfig",
    "RowPart",
    "ScoringConfig",
    "ServingConfig",
    "Source",
    "TrainingConfig",
]
