"""The two-minute form of benchmarks/chaos.py: replicas, routers and a node are killed, and nobody notices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.collaborations import random_collaboration
from tests.commands import DEADLINE_S, free_port
from tests.conftest import ModelFolder

ROOT = Path(__file__).resolve().parents[2]


def test_no_answer_is_lost_to_what_dies(model_folder: ModelFolder, tmp_path: Path) -> None:
    random_collaboration(model_folder, "llama", ["qwen3"]).save(tmp_path / "collaboration")
    rows = [{"messages": [{"content": f"the {word}", "role": "user"}] * 2} for word in ("fox", "dog", "cat", "lazy")]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "--collaboration": tmp_path / "collaboration",
        "--data": tmp_path / "questions.jsonl",
        "--port": free_port(),
        "--json": tmp_path / "chaos.json",
    }
    command = [sys.executable, "-m", "benchmarks.chaos", "--quick", *(str(x) for pair in options.items() for x in pair)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed, killed = json.loads((tmp_path / "chaos.json").read_text())["rows"]
    assert (killed["expert_kills"], killed["router_kills"], killed["node_kills"]) == (2, 1, 1)
    for row in (undisturbed, killed):
        assert row["answers"] >= 24
        assert (row["lost"], row["differing"]) == (0, 0), done.stdout
