from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from upath import UPath

from colllm_ray.errors import ColllmError
from colllm_ray.model_folder import files_revision
from colllm_ray.model_folder import model_folder as folder_of
from colllm_ray.storage import delete_folder, local_file, location, names_in, write_whole, written_folder, written_whole


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    return location(tmp_path) if request.param == "local" else location(request.getfixturevalue("s3_folder"))


def test_files_are_written_whole_or_not_at_all(folder: UPath) -> None:
    path = folder / "deep" / "file"
    write_whole(path, b"old")

    def fail_in_the_middle() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert names_in(folder / "deep") == {"file"}
    assert names_in(folder / "none") == set()
    with local_file(path) as local:
        assert local.read_bytes() == b"new"
    delete_folder(folder / "deep")
    delete_folder(folder / "deep")
    assert not path.exists()


def test_a_folder_takes_the_place_of_another(folder: UPath) -> None:
    target = folder / "whole"
    for content in ("first", "second"):
        with written_folder(target, last="last") as unfinished:
            (unfinished / "inner").mkdir()
            (unfinished / "inner" / content).write_text(content)
            (unfinished / "last").write_text(content)
    assert names_in(target / "inner") == {"second"}
    assert (target / "last").read_text() == "second"


def test_unknown_storage_is_named() -> None:
    with pytest.raises(ColllmError, match=r"nowhere://bucket/run: there is no storage for it here: .*nowhere"):
        location("nowhere://bucket/run")


def test_a_model_behind_a_uri_is_copied_once(
    s3_folder: str, model_folder: Callable[[str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    uri = f"{s3_folder}/llama"
    for file in model_folder("llama", 0).iterdir():
        write_whole(location(uri) / file.name, file.read_bytes())
    small = Path(folder_of(uri, weights=False))
    assert (small / "config.json").is_file()
    assert not (small / "model.safetensors").exists()
    whole = Path(folder_of(uri, weights=True))
    assert whole == small
    before = (whole / "model.safetensors").stat().st_mtime_ns
    assert folder_of(uri, weights=True) == str(whole)
    assert (whole / "model.safetensors").stat().st_mtime_ns == before
    revision = files_revision(uri)
    write_whole(location(uri) / "config.json", b"{}")
    assert files_revision(uri) != revision
    assert folder_of(uri, weights=True) != str(whole)
    with pytest.raises(ColllmError, match=r"s3://.*/nothing: "):
        folder_of(f"{s3_folder}/nothing", weights=False)


def test_a_folder_is_as_readable_as_files_beside_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_folder(location(tmp_path / "whole"), last="last") as unfinished:
            (unfinished / "inner").mkdir(mode=0o700)
            save_file({"weight": torch.ones(2)}, unfinished / "inner" / "model.safetensors")
            (unfinished / "last").touch(0o600)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "whole").rglob("*")}
    assert modes == {"inner": 0o750, "model.safetensors": 0o640, "last": 0o640}
    assert (tmp_path / "whole").stat().st_mode & 0o777 == 0o750
