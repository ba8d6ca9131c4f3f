"""A trained collaboration: the folder that training leaves and everything else starts from."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.errors import ColllmError
from colllm_ray.storage import Where, local_file, location, write_whole, written_folder

BASE, ADAPTER = "base", "adapter"  # folders of weights
BESIDE = "beside"
DESCRIPTION, HEAD, CALIBRATION = "collaboration.yaml", "head.safetensors", "calibration.json"


@dataclass(frozen=True)
class TrainedCollaboration:
    """A collaboration with its head and its threshold.

    `base_revision` names the base's weights that the head reads, as `weights_revision` does; those that lie in the
    folder itself, all of them or an adapter's, are called `BESIDE`.
    """

    collaboration: Collaboration
    head: DeferralHead
    calibration: Calibration
    base_revision: str

    def base_fits(self, revision: str) -> bool:
        """Whether these are the base's weights that the head was trained for."""
        elsewhere, plus, last = self.base_revision.rpartition("+")
        if last == BESIDE:
            return revision.startswith(elsewhere + plus)
        return revision == self.base_revision

    def below(self, route_prefix: str | None) -> TrainedCollaboration:
        """The same, to be served below a path; below that of its description where there is none."""
        if route_prefix is None:
            return self
        serving = self.collaboration.serving.model_copy(update={"route_prefix": route_prefix})
        return replace(self, collaboration=self.collaboration.model_copy(update={"serving": serving}))

    def save(self, folder: Where, weights: Path | None = None) -> None:
        """Writes collaboration.yaml, head.safetensors and calibration.json, in place of an earlier folder.

        `weights` is a folder that comes along: `base`, or the `adapter` of the base.
        """
        made_for = {"experts": self._expert_names(), "base_revision": self.base_revision}
        with written_folder(location(folder), last=DESCRIPTION) as unfinished:
            save_file(self.head.state_dict(), unfinished / HEAD, metadata=made_for)
            (unfinished / CALIBRATION).write_bytes(_to_json(self.calibration))
            description = self.collaboration
            if weights is not None:
                shutil.copytree(weights, unfinished / weights.name)
                description = description.model_copy(update={"base": _with_own_weights(description.base, weights.name)})
            (unfinished / DESCRIPTION).write_text(description.to_yaml(), encoding="utf-8")

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
        except OSError as error:
            raise ColllmError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ColllmError(f"{path}: holds no deferral head: {error}") from error
        path = folder / CALIBRATION
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            candidates = tuple(Candidate(**candidate) for candidate in content["candidates"])
            calibration = Calibration(float(content["threshold"]), candidates, content["metric"])
        except OSError as error:
            raise ColllmError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
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


def write_calibration(calibration: Calibration, folder: Where) -> None:
    """Puts a calibration in the place of the one in a trained collaboration's folder."""
    write_whole(location(folder) / CALIBRATION, _to_json(calibration))


def _to_json(calibration: Calibration) -> bytes:
    return (json.dumps(asdict(calibration), indent=1) + "\n").encode()


def _with_own_weights(base: ModelConfig, name: str) -> ModelConfig:
    if name == ADAPTER:
        return base.model_copy(update={"adapter": name})
    return base.model_copy(update={"model": name, "revision": None, "adapter": None})
