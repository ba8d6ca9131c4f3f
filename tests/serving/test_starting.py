"""What clients and users see while an application starts, and where it cannot; several applications on one Serve."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from ray import serve

from colllm_ray.errors import ColllmError
from colllm_ray.serving.application import _run, deploy_http
from colllm_ray.serving.deployed import deployed
from tests.collaborations import random_collaboration
from tests.commands import wait_until
from tests.conftest import ModelFolder


@contextmanager
def answers_of(url: str) -> Iterator[list[httpx.Response]]:
    """What GET of the URL gets, again and again, while the body runs."""
    over, answers = threading.Event(), list[httpx.Response]()

    def ask() -> None:
        while not over.wait(0.05):
            answers.append(httpx.get(url, timeout=60))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answers
    finally:
        over.set()
        asker.join()


def is_starting(answer: httpx.Response) -> bool:
    if answer.status_code == 200:
        return False
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["code"] == "starting"
    assert answer.json()["error"]["type"] == "server_error"
    return True


def application_of(base_url: str, error: str | None) -> serve.Application:
    """An ingress that could answer at once, and what is behind it, which the error keeps from starting."""

    class Behind:
        def __init__(self) -> None:
            while httpx.get(f"{base_url}/health", timeout=60).status_code != 503:
                pass  # until the proxy has its route
            if error is not None:
                raise ColllmError(error)

    class Ahead:
        def __init__(self, behind: object) -> None:
            pass

        async def __call__(self, _: object) -> str:
            return "there"

    with_no_cpus = serve.deployment(ray_actor_options={"num_cpus": 0}, max_constructor_retry_count=1)
    return with_no_cpus(Ahead).bind(with_no_cpus(Behind).bind())


def test_requests_get_503_until_all_of_an_application_runs(url: str) -> None:
    try:
        with answers_of(f"{url}/slow/health") as answers:
            _run(application_of(f"{url}/slow", None), "slow", "/slow")
            wait_until(lambda: answers[-1].status_code == 200, "an answer of what has started")
        known = [answer for answer in answers if answer.status_code != 404]  # of the lab, which answers at /
        assert is_starting(known[0])
        started = [not is_starting(answer) for answer in known]
        assert started == sorted(started)
        assert httpx.get(f"{url}/health").status_code == 200
    finally:
        serve.delete("slow")


def test_what_cannot_start_is_told_in_one_line_and_never_answers(url: str) -> None:
    try:
        with answers_of(f"{url}/broken/health") as answers:
            with pytest.raises(ColllmError) as error:
                _run(application_of(f"{url}/broken", "models/x: holds no model"), "broken", "/broken")
            count = len(answers)
            wait_until(lambda: len(answers) > count + 3, "answers after the failure")
        assert str(error.value) == "broken cannot start: Behind: models/x: holds no model"
        assert all(is_starting(answer) for answer in answers if answer.status_code != 404)
        behind = next(one for one in deployed() if one.name == "Behind")
        assert behind.reason == "models/x: holds no model"
        assert "failed to start 1 times" in behind.message
    finally:
        serve.delete("broken")


def test_applications_answer_below_prefixes_of_their_own(url: str, model_folder: ModelFolder) -> None:
    host, port = httpx.URL(url).host, httpx.URL(url).port
    assert port is not None
    trained = random_collaboration(model_folder, "llama", ["qwen3"])
    with pytest.raises(ColllmError, match=r"^/ is where the application lab answers; give random a --route-prefix"):
        deploy_http(trained, host, port)
    try:
        below = deploy_http(trained.below("/law/second"), host, port)
        assert below == f"{url}/law/second"
        name = trained.collaboration.name
        assert httpx.get(f"{below}/v1/models").json()["data"][0]["id"] == name
        assert httpx.get(f"{below}/health").status_code == 200
        body = {"prompt": "the quick", "max_tokens": 2}
        assert httpx.post(f"{below}/v1/completions", json=body, timeout=60).json()["model"] == name
        page = httpx.get(below, follow_redirects=True)
        assert page.status_code == 200
        assert httpx.get(page.url.join("page/page.js")).status_code == 200
        document = httpx.get(f"{below}/openapi.json").json()
        assert document["servers"] == [{"url": "/law/second"}]
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "lab"
        assert httpx.get(f"{url}/law/secondary").status_code == 404
    finally:
        serve.delete(trained.collaboration.name)
