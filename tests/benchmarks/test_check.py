"""Comparing runs with the results that are kept, on files made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import check, fold
from benchmarks.headline import higher, lower, neither
from benchmarks.options import RESULTS
from benchmarks.results_file import Results


def write(folder: Path, name: str = "decode", commit: str = "abc", amount: str = "full", **headline: Any) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.json"
    content = {
        "benchmark": name,
        "amount": amount,
        "commit": commit,
        "hardware": {"cpu": "a processor"},
        "rows": [],
        "headline": {key: one.as_json() for key, one in headline.items()},
    }
    file.write_text(json.dumps(content))
    return file


def verdicts(kept: Path, new: Path) -> dict[str, str]:
    return {one.key: one.verdict for one in check.compared(Results.read(kept), Results.read(new))}


def test_a_headline_fell_where_it_is_worse_by_more_than_the_spread_of_what_is_kept(tmp_path: Path) -> None:
    kept = write(
        tmp_path / "kept",
        speedup=higher(1.9, 2.0, 2.1),  # noise .2
        seconds=lower(10, 11, 12),  # noise 2
        faults=lower(0),
        answers=neither(1000),
        one_run=higher(100),  # noise unknown: 5 %
        dropped=higher(1),
    )
    same = write(
        tmp_path / "same",
        speedup=higher(1.81),
        seconds=lower(12.9),
        faults=lower(0),
        one_run=higher(95.1),
        added=lower(3),
    )
    assert verdicts(kept, same) == {
        "speedup": "as before",
        "seconds": "as before",
        "faults": "as before",
        "answers": "gone",
        "one_run": "as before",
        "dropped": "gone",
        "added": "new",
    }
    worse: dict[str, Any] = {"speedup": higher(1.79), "seconds": lower(13.1), "faults": lower(1), "one_run": higher(94)}
    fallen = write(tmp_path / "worse", **worse, answers=neither(1), dropped=higher(1))
    assert verdicts(kept, fallen) == {
        **dict.fromkeys(worse, "fell"),
        "answers": "not judged",
        "dropped": "as before",
    }
    better = write(tmp_path / "better", speedup=higher(2.3), seconds=lower(8.9))
    assert [verdicts(kept, better)[key] for key in ("speedup", "seconds")] == ["rose", "rose"]


def test_the_command_names_what_fell_and_has_status_1_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "kept", speedup=higher(1.9, 2.0, 2.1))
    write(tmp_path / "kept", "experts", spread=lower(1.0, 1.1))
    good = write(tmp_path / "new", speedup=higher(2.0, 1.9))
    bad = write(tmp_path / "new", "experts", spread=lower(1.3, 1.2))
    check.main([str(good), "--kept", str(tmp_path / "kept")])
    assert "fell" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        check.main([str(good), str(bad), "--kept", str(tmp_path / "kept")])
    assert capsys.readouterr().out.splitlines()[-1] == "fell by more than the noise: experts.spread"


@pytest.mark.parametrize(
    ("amount", "content", "says"),
    [
        ("quick", None, "decode.json: a --quick run has no headlines"),
        ("full", "[]", "decode.json: is not what a benchmark writes"),
        ("full", "{", "decode.json: Expecting property name"),
        (
            "full",
            '{"amount": "full", "headline": {"a": {"runs": [], "better": "up"}}}',
            "better: expected one of higher",
        ),
    ],
)
def test_what_is_no_full_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], amount: str, content: str | None, says: str
) -> None:
    file = write(tmp_path, amount=amount, speedup=higher(1))
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit, match="2"):
        check.main([str(file)])
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_runs_are_folded_into_one_with_their_spread(tmp_path: Path) -> None:
    files = [write(tmp_path / str(run), speedup=higher(1, value, 9)) for run, value in enumerate((2.0, 2.4, 2.1))]
    fold.main([*map(str, files), "--json", str(tmp_path / "folded.json")])
    headline = Results.read(tmp_path / "folded.json").headline["speedup"]
    assert (headline.value, headline.spread, headline.better) == (2.1, 0.4, "higher")


def test_runs_of_different_commits_are_not_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / commit, commit=commit, speedup=higher(1)) for commit in ("abc", "def")]
    with pytest.raises(SystemExit, match="2"):
        fold.main([*map(str, files), "--json", str(tmp_path / "folded.json")])
    assert "different commits cannot be folded: abc; def" in capsys.readouterr().err
    assert not (tmp_path / "folded.json").exists()


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_kept_results_are_full_runs_that_agree_with_themselves(file: Path) -> None:
    results = Results.read(file)
    assert file.stem.removesuffix("_hosts") == results.benchmark
    for key, one in results.content["headline"].items():
        assert one == results.headline[key].as_json(), key
    if file.stem == results.benchmark:
        check.main([str(file)])
