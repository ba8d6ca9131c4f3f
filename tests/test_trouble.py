"""What a user can put right is told in one line, by every command; what goes well says nothing alarming."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from colllm_ray.cli import main
from colllm_ray.cli.trouble import what_to_mend
from colllm_ray.config import Collaboration
from colllm_ray.deferral.trained import HEAD
from colllm_ray.errors import ColllmError
from tests.collaborations import random_collaboration
from tests.commands import run_colllm
from tests.conftest import ModelFolder

MOST_LINES = 3
Run = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must end with an error in one line, which is returned."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["colllm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        if isinstance(end.value.code, str):  # what the interpreter would print
            print(end.value.code, file=sys.stderr)
        else:
            assert end.value.code == 2
        return one_error(capfd.readouterr().err)

    return run


def one_error(output: str) -> str:
    lines = output.strip().splitlines()
    assert len(lines) <= MOST_LINES, output
    assert "Traceback" not in output
    (error,) = (line for line in lines if line.startswith("error: "))
    return error.removeprefix("error: ")


@pytest.fixture(scope="module")
def folders(
    write_tiny: Callable[[Path], Collaboration], model_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of a configuration, tiny.yaml, and of a trained collaboration."""
    folder = tmp_path_factory.mktemp("trouble")
    write_tiny(folder)
    random_collaboration(model_folder, "llama", ["qwen3"]).save(folder / "collaboration")
    return folder


def commands(folder: Path, trained: str = "collaboration", config: str = "tiny.yaml") -> dict[str, list[object]]:
    """Each command as it would do its work."""
    rows = folder / "train.jsonl"
    return {
        "score": ["score", folder / config, "--out", folder / "run"],
        "train": ["train", folder / config, "--out", folder / "run"],
        "calibrate": ["calibrate", folder / trained, "--data", rows],
        "evaluate": ["evaluate", folder / trained, "--data", rows],
        "serve": ["serve", folder / trained],
        "deploy": ["deploy", folder / trained],
        "plan": ["plan", folder / config],
        "status": ["status"],
        "ask": ["ask", folder / trained, "hello"],
        "demo": ["demo", "--out", folder / "demo"],
    }


IN_A_CLUSTER = ("score", "train", "calibrate", "evaluate", "serve", "deploy", "plan", "status", "demo")
WITH_CONFIG = ("score", "train", "plan")
WITH_TRAINED = ("calibrate", "evaluate", "serve", "ask")
ADDRESSES = {
    "http://127.0.0.1:8265": "is an address of a dashboard, which takes jobs",
    "ray://127.0.0.1:10001": "is an address of Ray Client",
    "nonsense": "is no address of a Ray cluster",
    "host:99999": "is no address of a Ray cluster",
    "s3://bucket": "is an address of no Ray cluster",
}


@pytest.mark.parametrize("command", [*IN_A_CLUSTER, "ask"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_no_address_of_a_cluster_is_refused(
    refused: Run, folders: Path, command: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = commands(folders)[command]
    by_argument = refused(*arguments[:1], "--address", address, *arguments[1:])
    assert f"{address}: {ADDRESSES[address]}" in by_argument
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert refused(*arguments) == by_argument


@pytest.mark.parametrize("command", IN_A_CLUSTER)
def test_a_cluster_that_is_not_there_is_told_at_once(refused: Run, folders: Path, command: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        said = refused(*commands(folders)[command], "--address", address)
    assert f"there is no Ray cluster at {address}: Connection refused; give HOST:PORT" in said


def test_what_listens_and_is_no_cluster_is_told(refused: Run, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colllm_ray.ray_address.ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = refused(*commands(folders)["status"], "--address", address)
    assert f"what listens at {address} is no Ray cluster" in said


@pytest.mark.parametrize("command", [*WITH_CONFIG, *WITH_TRAINED])
def test_a_file_that_is_missing_is_named(refused: Run, folders: Path, command: str) -> None:
    said = refused(*commands(folders, trained="none", config="none.yaml")[command])
    missing = "none.yaml: cannot be read: No such file" if command in WITH_CONFIG else "none: there is no such folder"
    assert f"{folders / missing}" in said


@pytest.mark.parametrize("command", WITH_TRAINED)
def test_a_head_that_cannot_be_read_is_told_apart_from_none(
    refused: Run, folders: Path, tmp_path: Path, command: str
) -> None:
    shutil.copytree(folders / "collaboration", tmp_path / "collaboration")
    head = tmp_path / "collaboration" / HEAD
    head.unlink()
    head.mkdir()
    assert f"{head}: cannot be read: " in refused(*commands(tmp_path)[command])
    head.rmdir()
    head.write_bytes(b"no tensors")
    assert f"{head}: holds no deferral head: " in refused(*commands(tmp_path)[command])


ARGUMENTS = {
    "serve --port 99999": "'99999' is no port; they go from 1 to 65535",
    "serve --port 0": "'0' is no port",
    "deploy x --port http": "'http' is no port",
    "serve --route-prefix law": "'law' is no path such as /law",
    "deploy x --route-prefix /law/": "'/law/' is no path such as /law",
    "ask ftp://127.0.0.1:1/x hi": "ftp://127.0.0.1:1/x: cannot be reached: ",
    "ask gopher://x hi": "gopher://x: there is no storage for it here",
    "ask http://127.0.0.1:1 hi": "http://127.0.0.1:1: cannot be reached: ",
    "calibrate x --steps 0": "'0' is no number from 1 on",
    "evaluate x --data y --also z": "'z' is not NAME=FOLDER",
    "lab build --out /proc/none --facts 3": "3 facts are too few",
    "lab build --out /proc/none --base 2": "invalid size value: '2'",
    "lab build --out /proc/none": "/proc/none.tmp: No such file or directory",
    "score": "the following arguments are required: CONFIG, --out",
    "scores": "invalid choice: 'scores'",
    "": "the following arguments are required: COMMAND",
}


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_wrong_arguments_are_told_in_one_line(refused: Run, arguments: str) -> None:
    assert ARGUMENTS[arguments] in refused(*arguments.split())


@pytest.fixture
def too_long(tmp_path: Path) -> Path:
    path = tmp_path / ("x" * 100)
    path.mkdir()
    return path


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.mark.parametrize("folder", ["too_long", "a_file"])
def test_a_folder_that_ray_cannot_use_is_named_with_its_variable(
    folders: Path, folder: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(path := request.getfixturevalue(folder)))
    status, output = run_colllm(*commands(folders)["score"])
    assert status == 1
    said = one_error(output)
    assert said.startswith(f"Ray cannot start in {path}: ")
    assert "set $RAY_TMPDIR" in said


def test_a_home_that_cannot_be_written_is_named_by_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    status, output = run_colllm("ask", "hello")
    assert status == 1
    said = one_error(output)
    assert said.startswith("/proc/.cache")
    assert "$HOME" in said


def test_a_file_that_does_not_fit_on_the_disk_is_named(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from colllm_ray.cli.trouble import what_to_mend
from colllm_ray.storage import location, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(location({str(tmp_path)!r}) / "large", bytes(2000))
except OSError as error:
    print(what_to_mend(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/large: File too large\n"
    assert not list(tmp_path.iterdir())


def test_errors_of_workers_are_told_as_those_of_the_command() -> None:
    import ray.exceptions

    def raised(error: Exception, cause: Exception) -> Exception:
        error.__cause__ = cause
        return error

    users = ColllmError("models/x: holds no model;\n  name another")
    assert what_to_mend(raised(RuntimeError("stage"), users)) == "models/x: holds no model; name another"
    in_a_task = ray.exceptions.RayTaskError("score", "Traceback ..", users)
    assert what_to_mend(in_a_task.as_instanceof_cause()) == "models/x: holds no model; name another"
    in_a_constructor = ray.exceptions.ActorDiedError(ray.exceptions.RayTaskError("score", _traceback(users), users))
    assert what_to_mend(in_a_constructor) == "models/x: holds no model;"
    of_the_system = ray.exceptions.RayTaskError("score", "", OSError(28, "No space left on device", "/data/part"))
    assert what_to_mend(of_the_system.as_instanceof_cause()) == "/data/part: No space left on device"
    assert what_to_mend(ValueError("a fault of ours")) is None
    assert what_to_mend(raised(KeyError("ours"), ZeroDivisionError())) is None


def _traceback(error: Exception) -> str:
    return f"Traceback (most recent call last):\n  File ..\n{type(error).__module__}.{type(error).__name__}: {error}"
