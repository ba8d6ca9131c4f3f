"""What every benchmark prints for people and keeps for machines."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

from benchmarks.headline import Headline
from benchmarks.options import RESULTS, ROOT, Amount
from colllm_ray import __version__

Cell = str | float | int
Row = dict[str, Cell]


@dataclass(frozen=True)
class Report:
    """What one run of a benchmark found: a row for each setting, and the few numbers that issues and README name."""

    benchmark: str
    rows: list[Row]
    headline: dict[str, Headline]


@dataclass(frozen=True)
class Hardware:
    """The machine; `gpu` is None where torch sees none."""

    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None


def hardware() -> Hardware:
    return Hardware(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")  # Linux alone has it; platform.processor() is empty there
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "transformers", "ray")}
    return {"python": platform.python_version(), **packages, "colllm_ray": __version__}


def commit(root: Path = ROOT) -> str:
    """The short hash, with `-dirty` where anything but results differs from it; "unknown" outside a git checkout."""
    try:
        name = _git(root, "rev-parse", "--short", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", ".", f":!{RESULTS.relative_to(ROOT)}")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changes else name


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def write_json(path: Path, report: Report, amount: Amount = "full") -> None:
    """Writes the report with what made it; headlines where all was measured.

    Raises ValueError where a number is not finite.
    """
    content = {
        "benchmark": report.benchmark,
        "amount": amount,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": asdict(hardware()),
        "versions": versions(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "rows": report.rows,
        "headline": {key: one.as_json() for key, one in report.headline.items()} if amount == "full" else {},
    }
    write_content(path, content)


def write_content(path: Path, content: Mapping[str, object]) -> None:
    """`path` appears, or changes, only once all is written. Raises ValueError where a number is not finite."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def latencies(seconds: Sequence[float]) -> Row:
    """The columns that say how long tokens took, in ms."""
    at = sorted(second * 1e3 for second in seconds)
    return {"ms_p50": round(median(at), 3), "ms_p99": round(at[int(0.99 * (len(at) - 1))], 3)}


def print_table(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str]) -> None:
    """Prints the rows' values under the columns' names, whatever the terminal's width; blank where a row has none."""
    lines = [list(columns), *([_text(row[column]) if column in row else "" for column in columns] for row in rows)]
    numeric = [all(not isinstance(row.get(column), str) for row in rows) for column in columns]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        cells = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        print("  ".join(cells).rstrip())


def finish(options: argparse.Namespace, report: Report, chart: Callable[[Path, Report], None]) -> None:
    """Prints the report, and writes what the options ask for; in a smoke all of it, to where it is lost."""
    columns = list(dict.fromkeys(column for row in report.rows for column in row))
    print_table(report.rows, columns)
    print()
    if options.amount == "full":
        for key, headline in report.headline.items():
            print(f"{key} = {headline.text()}")
    else:
        print(f"no headlines: --{options.amount} measures too little for them")
    with tempfile.TemporaryDirectory() as lost:
        smoke = Path(lost) if options.amount == "smoke" else None
        if json_file := options.json or (smoke and smoke / "smoke.json"):
            write_json(json_file, report, options.amount)
        if plot := options.plot or (smoke and smoke / "smoke.png"):
            chart(plot, report)


def _text(value: Cell) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
