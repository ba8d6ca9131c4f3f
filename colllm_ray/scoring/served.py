"""Scores from the models of a running application, instead of loading them once more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import ray
import torch

from colllm_ray.client_key import key_headers
from colllm_ray.engine.target_scores import TargetScores
from colllm_ray.engine.text import GoldScores, Text, batches_by_length
from colllm_ray.errors import ColllmError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

BATCHES_AT_ONCE = 4  # that a scorer has under way, so that the model never waits for it
TIMEOUT_S = 600.0
PAUSES_S = (1, 5, 20, 60)  # before a request that failed is made again

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """The weights that a member of an application serves with, named as in `Provenance`."""

    revision: str
    dtype: str


class ServedMember(Protocol):
    """One member of a running application."""

    def origin(self) -> Origin:
        """Raises ColllmError where there is no such application, or none with that member."""

    def score(self, texts: Sequence[Text]) -> Sequence[GoldScores | str]:
        """One entry a text; for one that it cannot score, the reason. Raises UnavailableError, or ColllmError."""


class UnavailableError(ColllmError):
    """The application does not answer now; it may later."""


class AppMember:
    """A member of a Serve application of this Ray."""

    def __init__(self, application: str, member: str) -> None:
        self._application, self._member = application, member

    def origin(self) -> Origin:
        return Origin(*self._call("origin", self._member))

    def score(self, texts: Sequence[Text]) -> Sequence[GoldScores | str]:
        scores: Sequence[GoldScores | str] = self._call("score", self._member, tuple(texts))
        return scores

    def _call(self, method: str, *arguments: object) -> Any:
        from ray.serve.exceptions import RayServeException

        try:
            return getattr(self._router, method).remote(*arguments).result(timeout_s=TIMEOUT_S)
        except ray.exceptions.RayTaskError as error:
            raise ColllmError(f"{self._application}: {error.cause}") from error
        except (ray.exceptions.RayError, RayServeException, TimeoutError) as error:
            raise UnavailableError(f"{self._application}: does not answer: {error}") from error

    @cached_property
    def _router(self) -> DeploymentHandle:
        from ray import serve  # takes a second to import: scorers that load their model do without
        from ray.serve.exceptions import RayServeException

        try:
            return serve.get_deployment_handle("Router", self._application).options(_by_reference=False)
        except (RayServeException, KeyError, ValueError) as error:
            raise ColllmError(f"this Ray serves no application {self._application!r}: {error}") from error


@dataclass(frozen=True)
class HttpMember:
    """A member of an application behind its HTTP door."""

    url: str
    member: str

    def origin(self) -> Origin:
        content = self._ask("GET", f"/v1/colllm/members/{self.member}", None)
        return Origin(content["revision"], content["dtype"])

    def score(self, texts: Sequence[Text]) -> Sequence[GoldScores | str]:
        body = {
            "member": self.member,
            "texts": [{"input_ids": list(text.input_ids), "target_mask": list(text.target_mask)} for text in texts],
        }
        content = self._ask("POST", "/v1/colllm/scores", body)
        return [one["error"] or GoldScores(tuple(one["gold_logprob"]), tuple(one["top1"])) for one in content["scores"]]

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        try:
            url = f"{self.url.rstrip('/')}{path}"
            response = httpx.request(method, url, json=body, headers=key_headers(), timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self.url}: cannot be reached: {error}") from error
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise UnavailableError(f"{self.url}: failed with status {response.status_code}: {response.text}")
        if response.status_code != httpx.codes.OK:
            raise ColllmError(f"{self.url}: refused with status {response.status_code}: {response.text}")
        content: dict[str, Any] = response.json()
        return content


def served_member(target: str, member: str) -> ServedMember:
    """A member of the application that `target` names: a URL, or an application of this Ray."""
    return HttpMember(target, member) if is_url(target) else AppMember(target, member)


def is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


class ServedScorer:
    """Scores texts as `TargetScorer` does, but for the hidden states, by a model that runs already."""

    def __init__(self, member: ServedMember, batch_tokens: int) -> None:
        self._member = member
        self._batch_tokens = batch_tokens

    def score(self, texts: Sequence[Text], tell: Callable[[int], None] = lambda _: None) -> list[TargetScores | str]:
        """One entry a text; for one that cannot be scored, the reason. `tell` hears of tokens as they are scored."""
        batches = batches_by_length([len(text.input_ids) for text in texts], self._batch_tokens)
        scored: list[TargetScores | str] = [""] * len(texts)
        with ThreadPoolExecutor(BATCHES_AT_ONCE) as threads:
            answers = threads.map(lambda batch: self._ask([texts[i] for i in batch]), batches)
            for batch, answer in zip(batches, answers, strict=True):
                for i, one in zip(batch, answer, strict=True):
                    if isinstance(one, str):
                        scored[i] = one
                        continue
                    scored[i] = TargetScores(torch.tensor(one.gold_logprob), torch.tensor(one.top1), None)
                tell(sum(len(texts[i].input_ids) for i in batch))
        return scored

    def _ask(self, texts: Sequence[Text]) -> Sequence[GoldScores | str]:
        """Asks again while the application does not answer."""
        for pause in PAUSES_S:
            try:
                return self._member.score(texts)
            except UnavailableError as error:
                logger.warning("%s; asked again in %d s", error, pause)
                time.sleep(pause)
        return self._member.score(texts)
