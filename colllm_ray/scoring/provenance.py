"""Where a table of scores comes from: written into every file, compared at every read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from transformers import PreTrainedTokenizerBase
from upath import UPath

from colllm_ray import __version__
from colllm_ray.config import DataConfig, ModelConfig, Source
from colllm_ray.data.sources import fingerprint
from colllm_ray.data.tokenizer import encoding_hash
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class Provenance:
    """What a file was made from. The examples, which no model has made, have no `model`, `revision` and `dtype`."""

    collaboration: str
    model: str
    revision: str
    dtype: str
    tokenizer: str
    data: str
    version: str = __version__

    def to_metadata(self) -> dict[bytes, bytes]:
        """Schema metadata of a Parquet file."""
        return {f"colllm.{key}".encode(): value.encode() for key, value in asdict(self).items()}

    def check(self, metadata: Mapping[bytes, bytes] | None, path: UPath) -> None:
        """Raises ColllmError that names the file and each entry that is not as it is here."""
        stored = metadata or {}
        differences = [
            f"{key.decode().removeprefix('colllm.')} {stored.get(key, b'?').decode()!r}, now {value.decode()!r}"
            for key, value in self.to_metadata().items()
            if stored.get(key) != value
        ]
        if differences:
            raise ColllmError(
                f"{path}: was made from something else: {'; '.join(differences)}. "
                f"Delete {path.parent} to score it anew, or use another run folder"
            )


def provenances(
    collaboration: str,
    members: Mapping[str, ModelConfig],
    tokenizer: PreTrainedTokenizerBase,
    sources: Mapping[str, Source],
    data: DataConfig,
) -> dict[str, Provenance]:
    """What each member's scores, and "examples", would come from now."""
    common = {"collaboration": collaboration, "tokenizer": encoding_hash(tokenizer), "data": fingerprint(sources, data)}
    made_from = {"examples": Provenance(model="", revision="", dtype="", **common)}
    for name, config in members.items():
        revision = weights_revision(config)
        made_from[name] = Provenance(model=config.model, revision=revision, dtype=config.dtype, **common)
    return made_from
