"""What a collaboration is compared with besides its own members: other models, other heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from colllm_ray.config import Collaboration, ExpertConfig
from colllm_ray.config.places import model_place
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import DESCRIPTION, TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.storage import Where, location


@dataclass(frozen=True)
class Compared:
    """Guests are models that no head knows; heads are of the same members, with the thresholds that they came with."""

    guests: tuple[ExpertConfig, ...] = ()
    heads: Mapping[str, DeferralHead] = field(default_factory=dict)
    etas: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trained: TrainedCollaboration, places: Mapping[str, Where]) -> Compared:
        """From places by name: the folder of a trained collaboration, or a model's folder or hub id.

        A model gets what a copy of the base needs. Raises ColllmError where a name is taken, or a head is for other
        models.
        """
        guests, heads, etas = [], {}, {}
        for name, place in places.items():
            if name in trained.collaboration.members:
                raise ColllmError(f"{name}: is the name of a member; give what it is compared with another")
            if (location(place) / DESCRIPTION).is_file():
                other = TrainedCollaboration.load(place)
                _check_models(trained, other, place)
                heads[name], etas[name] = other.head, other.calibration.threshold
            else:
                guests.append(guest(trained.collaboration, name, place))
        return cls(tuple(guests), heads, etas)


def guest(collaboration: Collaboration, name: str, place: Where) -> ExpertConfig:
    """A model that is served like another base. Raises ColllmError."""
    base = collaboration.base.model_dump(exclude={"model", "revision", "adapter", "replicas", "autoscaling"})
    return ExpertConfig(name=name, model=model_place(str(place), location("."), name), **base)


def _check_models(trained: TrainedCollaboration, other: TrainedCollaboration, place: Where) -> None:
    """A head can only be tried on the members that it was trained for."""
    if other.base_revision != trained.base_revision:
        raise ColllmError(f"{place}: its head was trained for another base; it cannot be tried on this one")
    experts, others = (list(one.collaboration.members)[1:] for one in (trained, other))
    if experts != others:
        raise ColllmError(f"{place}: its head was trained for the experts {others}, here they are {experts}")
