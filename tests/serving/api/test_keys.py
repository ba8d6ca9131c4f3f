from __future__ import annotations

import os
from pathlib import Path

import pytest

from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.keys import VARIABLE, is_known, take_keys


def test_keys_come_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "first-key-1, second-key-2")
    (tmp_path / "keys").write_text("# ours\nthird-key-3  # of the lab\n\n")
    hashes = take_keys(str(tmp_path / "keys"))
    assert len(hashes) == 3
    assert VARIABLE not in os.environ  # which processes started later would inherit
    for key in ("first-key-1", "second-key-2", "third-key-3"):
        assert is_known(key, hashes)
    for key in ("", "first-key-", "first-key-11", "# ours", "first-key-1, second-key-2"):
        assert not is_known(key, hashes)


def test_without_keys_all_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert take_keys(None) == frozenset()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# none\n", "holds no API key"),
        ("short\n", "at least 8 printable"),
        ("with a space\n", "and no space"),
        ("schlüssel-für-uns\n", "ASCII"),
        (None, "cannot be read: FileNotFoundError"),
    ],
)
def test_a_file_without_good_keys_is_refused_and_no_key_quoted(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ColllmError, match=message) as caught:
        take_keys(str(file))
    assert str(file) in str(caught.value)
    assert content is None or content.strip() not in str(caught.value)
