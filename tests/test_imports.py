"""Processes import what they need: it costs a start seconds, and there are many."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADS_MODELS = ("transformers.modeling_utils", "transformers.core_model_loading", "peft", "deepspeed")


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("colllm_ray.cli", ("torch", "ray")),
        ("colllm_ray.serving.ingress", (*LOADS_MODELS, "ray.data")),
        ("colllm_ray.training.train", LOADS_MODELS),  # by its workers too
    ],
)
def test_what_does_without_a_library_does_not_import_it(module: str, spared: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(spared).isdisjoint(done.stdout.split())
