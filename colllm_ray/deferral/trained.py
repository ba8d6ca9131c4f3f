"""A trained collaboration: the folder that training leaves and everything else starts from."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from colllm_ray.config import Collaboration
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class TrainedCollaboration:
    """A collaboration with its head and its threshold; `base_revision` names the base's weights that the head reads."""

    collaboration: Collaboration
    head: DeferralHead
    calibration: Calibration
    base_revision: str

    def save(self, folder: Path) -> None:
        """Writes collaboration.yaml, head.safetensors and calibration.json, in place of an earlier folder."""
        unfinished = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (unfinished / "collaboration.yaml").write_text(self.collaboration.to_yaml(), encoding="utf-8")
        made_for = {"experts": self._expert_names(), "base_revision": self.base_revision}
        save_file(self.head.state_dict(), unfinished / "head.safetensors", metadata=made_for)
        (unfinished / "calibration.json").write_text(json.dumps(asdict(self.calibration), indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> TrainedCollaboration:
        """Reads the folder. Raises ColllmError that names the file that is missing, corrupt or does not fit."""
        if not folder.is_dir():
            raise ColllmError(f"{folder}: there is no such folder; `colllm train` makes RUN/collaboration")
        collaboration = Collaboration.load(folder / "collaboration.yaml")
        path = folder / "head.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                made_for = file.metadata() or {}
            head = DeferralHead.from_tensors(load_file(path))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ColllmError(f"{path}: holds no deferral head: {error}") from error
        path = folder / "calibration.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            candidates = tuple(Candidate(**candidate) for candidate in content["candidates"])
            calibration = Calibration(float(content["threshold"]), candidates)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ColllmError(f"{path}: holds no calibration: {error}") from error
        trained = cls(collaboration, head, calibration, made_for.get("base_revision", ""))
        if made_for.get("experts") != trained._expert_names():
            raise ColllmError(
                f"{folder}: the head was trained for the experts {made_for.get('experts')}, "
                f"collaboration.yaml names {trained._expert_names()}; the order counts"
            )
        return trained

    def _expert_names(self) -> str:
        return json.dumps([expert.name for expert in self.collaboration.experts])
