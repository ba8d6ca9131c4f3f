"""How scores are gathered."""

from __future__ import annotations

from pydantic import Field

from colllm_ray.config.models import ModelConfig
from colllm_ray.config.section import Section


class ScoringConfig(Section):
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
