"""Requests that nobody would think of, made from the OpenAPI document: no failure, no hang, no leak.

`SCHEMA_CASES=100 python -m pytest tests/serving/test_schema.py` asks for more than 1,200 of them.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import Any, cast

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from ray import serve
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from tests.commands import wait_until
from tests.processes import started_processes

# Of each kind for each operation with a body; with 100 there are more than 1,200 cases, which take half a minute.
CASES = int(os.environ.get("SCHEMA_CASES", "25"))
MORE_MEMORY = 100 * 2**20  # bytes, in one process
APPLICATION = "lab"

# What the document cannot say (that a text fits the context, that a member is there) is refused all the same.
WRONG_HERE = {"positive_data_acceptance"}


def resident() -> dict[str, int]:
    """Bytes, by deployment."""
    return {
        name: sum(process.memory_info().rss for process in started_processes(f"{APPLICATION}:{name}"))
        for name in ("Ingress", "Router", "Expert-math")
    }


def asked(cases: Any) -> Counter[int]:
    """The statuses of the answers, each checked against the document."""
    statuses: Counter[int] = Counter()
    checks = [check for check in CHECKS.get_all() if check.__name__ not in WRONG_HERE]

    # The same cases in every run; none that fails is made simpler, which would ask again and again.
    @settings(
        max_examples=CASES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[Phase.generate],
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("n"), int):
            case.body["n"] = min(case.body["n"], 2)  # a hundred answers take their time
        response = case.call(timeout=60)
        case.validate_response(response, checks=checks)
        statuses[response.status_code] += 1

    ask()
    return statuses


def test_no_request_breaks_the_server(url: str) -> None:
    statuses: Counter[int] = Counter()
    before: dict[str, int] = {}
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # what takes nothing can be asked nothing wrong
                statuses += asked(cast(Any, found).ok().as_strategy(generation_mode=mode))
            before = before or resident()
    assert sum(statuses.values()) >= 10 * CASES, statuses
    assert statuses[200] >= CASES / 2
    after = resident()
    assert all(after[name] - before[name] < MORE_MEMORY for name in before), (before, after)
    deployments = ("Router", "Expert-pharma", "Expert-bears", "Expert-math")
    handles = [serve.get_deployment_handle(name, APPLICATION) for name in deployments]
    wait_until(lambda: not any(handle.sessions.remote().result() for handle in handles), "the end of all sessions")
