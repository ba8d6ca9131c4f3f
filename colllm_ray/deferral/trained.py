"""A trained collaboration: the folder that training leaves and everything else starts from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from colllm_ray.config import Collaboration
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.errors import ColllmError
from colllm_ray.storage import Where, local_file, location, written_folder

DESCRIPTION, HEAD, CALIBRATION = "collaboration.yaml", "head.safetensors", "calibration.json"


@dataclass(frozen=True)
class TrainedCollaboration:
    """A collaboration with its head and its threshold; `base_revision` names the base's weights that the head reads."""

    collaboration: Collaboration
    head: DeferralHead
    calibration: Calibration
    base_revision: str

    def save(self, folder: Where) -> None:
        """Writes collaboration.yaml, head.safetensors and calibration.json, in place of an earlier folder."""
        made_for = {"experts": self._expert_names(), "base_revision": self.base_revision}
        with written_folder(location(folder), last=DESCRIPTION) as unfinished:
            save_file(self.head.state_dict(), unfinished / HEAD, metadata=made_for)
            calibration = json.dumps(asdict(self.calibration), indent=1)
            (unfinished / CALIBRATION).write_text(calibration, encoding="utf-8")
            (unfinished / DESCRIPTION).write_text(self.collaboration.to_yaml(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Where) -> TrainedCollaboration:
        """Reads the folder. Raises ColllmError that names the file that is missing, corrupt or does not fit."""
        folder = location(folder)
        if not folder.is_dir():
            raise ColllmError(f"{folder}: there is no such folder; `colllm train` makes RUN/collaboration")
        collaboration = Collaboration.load(folder / DESCRIPTION)
        path = folder / HEAD
        try:
            with local_file(path) as local, safe_open(local, framework="pt") as file:
                made_for = file.metadata() or {}
                head = DeferralHead.from_tensors({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ColllmError(f"{path}: holds no deferral head: {error}") from error
        path = folder / CALIBRATION
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
