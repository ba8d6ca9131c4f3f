"""Where a benchmark runs, and with which collaboration: a Ray and a Serve of its own, or those that are there."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch
from ray import serve
from ray.serve.context import _get_global_client
from transformers import AutoConfig

from benchmarks.options import Amount
from colllm_ray.config import Collaboration
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.weights import weights_revision
from colllm_ray.lab.collaboration import lab_config, trained_lab
from colllm_ray.ray_session import ray_session
from colllm_ray.serving.application import serving_http


@contextmanager
def some_ray(collaboration: Collaboration) -> Iterator[None]:
    """The Ray that this process is connected to, or else a local one for as long as the body runs."""
    if ray.is_initialized():
        yield
    else:
        with ray_session(None, collaboration):
            yield


@contextmanager
def over_http(trained: TrainedCollaboration, port: int) -> Iterator[str]:
    """The URL of the collaboration: of the one that this Ray serves, or else of one that is served during the body."""
    name = trained.collaboration.name
    if name in serve.status().applications:
        http = _get_global_client().http_config
        yield f"http://{http.host}:{http.port}"
    else:
        with serving_http(trained, "127.0.0.1", port) as url:
            yield url


def small_lab() -> Collaboration:
    """The lab's base with one of its experts; they reserve little, so that several fit into one Ray."""
    lab = Collaboration.load(lab_config())
    base, expert = (one.model_copy(update={"num_cpus": 0.05}) for one in (lab.base, lab.experts[0]))
    return lab.model_copy(update={"base": base, "experts": (expert,)})


def collaboration_for(options: Namespace, address: str) -> TrainedCollaboration:
    """The one that `options.collaboration` names, or else the lab."""
    if options.collaboration:
        return TrainedCollaboration.load(options.collaboration)
    return lab_for(options.amount, address)


def lab_for(amount: Amount, address: str | None = None) -> TrainedCollaboration:
    """The trained lab; for a smoke a small one that nobody trained, so that there is nothing to wait for."""
    if amount != "smoke":
        return TrainedCollaboration.load(trained_lab(address))
    lab = small_lab()
    torch.manual_seed(0)
    head = DeferralHead(AutoConfig.from_pretrained(lab.base.model).hidden_size, len(lab.experts))
    torch.nn.init.normal_(head.weight, std=0.3)
    calibration = Calibration(0.5, (Candidate(share=0.5, threshold=0.5, quality=0.0),))
    return TrainedCollaboration(lab, head, calibration, weights_revision(lab.base))
