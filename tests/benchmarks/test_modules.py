"""Files that are run as `python FOLDER/FILE.py` put their folder before all that is installed."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions

import pytest

from tests.documents import ROOT

FOLDERS = ("benchmarks", "benchmarks/rivals", "jobs")
# Of lm-eval's tasks alone, which no job runs; users know the job by this name.
NEVER_IMPORTED = {"evaluate"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_hides_another(folder: str) -> None:
    here = {entry.stem for entry in (ROOT / folder).iterdir() if entry.suffix == ".py" or entry.is_dir()}
    hidden = here & ({*sys.stdlib_module_names, *packages_distributions()} - NEVER_IMPORTED)
    assert not hidden, f"{folder}: {', '.join(sorted(hidden))} hides a module of the same name; rename it"
