"""An engine: one language model, its sessions, and one step over several of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers.cache_utils import DynamicCache

from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Behind, Extend, Extended


@dataclass
class _Session:
    # Without the model's config, so that every layer keeps all its past: layers that keep a window only cannot be
    # cut back. The model's own mask still limits what a sliding window sees.
    cache: DynamicCache = field(default_factory=DynamicCache)
    length: int = 0  # tokens taken in


class Engine:
    """Steps the sessions of one language model; not safe for threads: one caller at a time.

    Keeps at most `max_sessions`; the least recently used one makes room, and answers `Behind` when it comes back.
    `head` maps h [N, D] to the scores s [N, K]; the base has one.
    """

    def __init__(self, model: LanguageModel, max_sessions: int, head: torch.nn.Module | None = None) -> None:
        self._model = model
        self._max_sessions = max_sessions
        self._head = head
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    @torch.inference_mode()
    def extend(self, requests: Sequence[Extend]) -> list[Extended | Behind]:
        """Serves the requests in order, each from its session's cache."""
        return [self._extend(request) for request in requests]

    def close(self, session: str) -> None:
        """Forgets a session; one that is not known (evicted, never opened) is no error."""
        self._sessions.pop(session, None)

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def _extend(self, request: Extend) -> Extended | Behind:
        session = self._sessions.get(request.session)
        have = session.length if session else 0
        if have < request.start:
            return Behind(have)
        if session is None:
            session = self._open(request.session)
        self._sessions.move_to_end(request.session)
        if have > request.start:
            session.cache.crop(request.start - have)  # a negative number of tokens to remove
        input_ids = torch.tensor([request.tokens], device=self._model.device)  # [1, T]
        last = torch.zeros_like(input_ids, dtype=torch.bool)
        last[0, -1] = True
        try:
            logits, hidden = self._model.forward(input_ids, last, cache=session.cache)
        except BaseException:
            self.close(request.session)  # some layers may have taken the tokens in, others not
            raise
        session.length = request.start + len(request.tokens)
        logprob, token = torch.log_softmax(logits[0], dim=-1).max(dim=-1)
        scores = None if self._head is None else tuple(self._head(hidden.float())[0].tolist())
        return Extended(int(token), float(logprob), scores)

    def _open(self, name: str) -> _Session:
        while len(self._sessions) >= self._max_sessions:
            self._sessions.popitem(last=False)
        return self._sessions.setdefault(name, _Session())
