from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from colllm_ray.config import Collaboration
from colllm_ray.deferral.trained import TrainedCollaboration
from tests.collaborations import random_collaboration
from tests.commands import alarms, free_port, ray_address, run_colllm, start_colllm, wait_until
from tests.conftest import ModelFolder
from tests.processes import named


def test_help_names_every_stage() -> None:
    status, output = run_colllm("--help")
    assert status == 0
    for command in ("score", "train", "calibrate", "evaluate", "serve", "ask", "demo", "lab"):
        assert re.search(rf"\n    {command}\s", output)


@pytest.mark.usefixtures("tiny")
def test_a_user_error_is_one_line_and_exit_status_one(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(path.read_text().replace("name: tiny", "name: tiny\nmodle: x"))
    status, output = run_colllm("score", path, "--out", tmp_path / "run")
    assert status == 1
    assert f"error: {path}: modle: unknown field; there are: name, base, experts, data" in output
    assert "Traceback" not in output
    assert not (tmp_path / "run").exists()


def test_ask_answers_from_a_folder(lab_run: Path) -> None:
    status, output = run_colllm("ask", lab_run / "collaboration", "What is a^3 * a^2 if a = 5?")
    assert status == 0
    assert "The product of the two powers is 3125." in output
    assert "  base " in output
    assert "  math " in output


@pytest.mark.usefixtures("ray_local")
def test_serve_answers_until_it_is_stopped(
    model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_collaboration(model_folder, "llama", ["qwen3"]).save(tmp_path / "collaboration")
    monkeypatch.setenv("COLLLM_API_KEYS", "a-key-of-ours")
    process = start_colllm("serve", tmp_path / "collaboration", "--port", free_port(), "--address", ray_address())
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    url, said = "", ""
    while not url:
        said += (line := next(lines))
        if " answers at " in line:
            url = line.split()[3].removesuffix("/v1/chat/completions;")
    assert alarms(said) == []
    assert next(lines) == f"people can ask at {url}\n"
    assert httpx.get(f"{url}/v1/models").status_code == 401
    monkeypatch.setenv("COLLLM_API_KEY", "a-key-of-ours")
    status, output = run_colllm("ask", url, "the quick")
    assert status == 0, output
    assert "  base " in output
    assert "  e0 " in output
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert rest == ""


@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, "/raylet/raylet"), (signal.SIGTERM, "ray::ServeController")]
)
def test_a_signal_ends_a_command_while_it_starts(
    model_folder: ModelFolder, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    random_collaboration(model_folder, "llama", ["qwen3"]).save(tmp_path / "collaboration")
    process = start_colllm("serve", tmp_path / "collaboration", "--port", free_port())
    started: set[psutil.Process] = set()

    def has_come() -> bool:
        with suppress(psutil.NoSuchProcess):
            started.update(psutil.Process(process.pid).children(recursive=True))
        return any(moment in named(one) for one in started)

    wait_until(has_come, f"the start of {moment}")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert alarms(output) == []
    _, left = psutil.wait_procs(started, timeout=10)
    assert [named(one) for one in left] == []


@pytest.mark.usefixtures("ray_local")
def test_calibrate_writes_what_it_found_beside_the_head(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "collaboration"
    random_collaboration(model_folder, "llama", ["qwen3"]).save(folder)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "the quick", "completion": " brown fox"}) + "\n")
    arguments = ("--data", tmp_path / "rows.jsonl", "--steps", 4, "--address", ray_address())
    status, output = run_colllm("calibrate", folder, *arguments)
    assert status == 0, output
    assert "those of decoding the data" in output
    calibration = TrainedCollaboration.load(folder).calibration
    assert len(calibration.candidates) >= 4
    assert calibration.metric == "exact"
    assert f"threshold {calibration.threshold:.6g};" in output
    assert (folder / "calibration.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("command", ["score", "train"])
def test_a_stage_needs_its_config(command: str, tmp_path: Path) -> None:
    status, output = run_colllm(command, tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert status == 1
    assert "none.yaml: cannot be read: No such file or directory" in output


def test_every_field_of_a_description_is_described() -> None:
    schema = Collaboration.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, field in section["properties"].items():
            described = field.get("description") or field.get("$ref")  # a section's own text describes it
            assert described, f"{section['title']}.{name}"
