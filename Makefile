# Everything runs in .venv, which the first target that needs it makes. Python keeps the modules that it compiles, also
# where the environment says not to: a hundred processes import the same ones.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Those with headlines that change with the code; each takes at most 15 minutes, with nothing else running.
BENCHMARKS ?= decode experts throughput http_api scoring training methods linear
scoring_options := $(if $(wildcard gsm8k/train.jsonl),--data gsm8k/train.jsonl)

.NOTPARALLEL:
.PHONY: demo test check bench bench-smoke bench-check clean

demo: $(VENV)/installed
	$(BIN)/colllm demo --out demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(addprefix bench-of-,$(BENCHMARKS))

bench-of-%: $(VENV)/installed
	$(BIN)/python -m benchmarks.$* $($*_options) --json bench/$*.json

bench-smoke: $(VENV)/installed
	$(BIN)/python -m pytest tests/benchmarks/test_smoke.py

bench-check: $(VENV)/installed
	$(BIN)/python -m benchmarks.check bench/*.json

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@
