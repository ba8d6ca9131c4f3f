from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.headline import higher
from benchmarks.plots import line_chart
from benchmarks.report import Report, commit, print_table, write_json


def test_json_says_what_was_found_and_what_made_it_and_is_replaced_by_a_rerun(tmp_path: Path) -> None:
    path = tmp_path / "results" / "decode.json"
    write_json(path, Report("decode", [{"f": 0.1, "row": "plain", "tokens": 3}], {"local_efficiency_f10": higher(0.9)}))
    write_json(
        path, Report("decode", [{"f": 0.1, "row": "plain", "tokens": 4}], {"local_efficiency_f10": higher(0.95, 0.9)})
    )
    content = json.loads(path.read_text())
    assert set(content) == set("benchmark amount commit date hardware versions command rows headline".split())
    assert content["rows"] == [{"f": 0.1, "row": "plain", "tokens": 4}]
    assert content["headline"] == {
        "local_efficiency_f10": {"value": 0.925, "spread": 0.05, "better": "higher", "runs": [0.95, 0.9]}
    }
    assert content["hardware"]["cores"] >= 1
    assert set(content["versions"]) == {"python", "torch", "transformers", "ray", "colllm_ray"}
    assert list(path.parent.iterdir()) == [path]


def test_a_report_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "decode.json"
    write_json(path, Report("decode", [], {"speedup": higher(1.5)}))
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, Report("decode", [], {"speedup": higher(float("nan"))}))
    assert json.loads(path.read_text())["headline"]["speedup"]["value"] == 1.5
    assert list(tmp_path.iterdir()) == [path]


def test_commit_tells_changes_but_for_those_of_results(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown"
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments_ in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *arguments_], cwd=tmp_path, check=True)
    clean = commit(tmp_path)
    assert len(clean) >= 7
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "decode.json").write_text("{}")
    assert commit(tmp_path) == clean
    (tmp_path / "benchmarks" / "decode.py").touch()
    assert commit(tmp_path) == f"{clean}-dirty"


def test_table_is_aligned_and_blank_where_a_row_has_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        [{"row": "plain", "ms": 12.345, "f": 0.1}, {"row": "reference protocol", "ms": 1234.5}], ["row", "f", "ms"]
    )
    assert capsys.readouterr().out.splitlines() == [
        "row                     f      ms",
        "------------------  -----  ------",
        "plain               0.100    12.3",
        "reference protocol         1234.5",
    ]


@pytest.mark.parametrize("log", [False, True])
def test_chart_is_a_png(tmp_path: Path, log: bool) -> None:
    series = {"plain": [(1.0, 2.0), (4.0, 8.0)], "run-ahead": [(1.0, 1.5), (4.0, 7.0)]}
    line_chart(tmp_path / "chart.png", series, "concurrency", "tokens/s", "Throughput", log_x=log, log_y=log)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_chart_refuses_a_point_that_a_logarithmic_axis_has_no_place_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain: a logarithmic axis"):
        line_chart(tmp_path / "chart.png", {"plain": [(0.0, 2.0)]}, "f", "ms", "Decode", log_x=True)
