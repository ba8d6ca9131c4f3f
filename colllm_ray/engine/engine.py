"""An engine: one language model, its sessions, and one step over several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch

from colllm_ray.engine.captured import CapturedForward
from colllm_ray.engine.choose import choose
from colllm_ray.engine.kv_cache import KVCache, Row
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Behind, Choice, Extend, Extended, Failed, Reply
from colllm_ray.engine.packed import PackedForward, in_step_order
from colllm_ray.engine.slots import Slot, SlotTable
from colllm_ray.engine.text import NOT_FINITE, common_prefix
from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class _Admitted:
    """A request and what of it has to be computed."""

    request: Extend
    slot: Slot
    row: Row


class Engine:
    """Steps the sessions of one language model; not safe for threads: one caller at a time.

    Keeps up to `sessions` texts of up to `context` tokens. `head` maps h [N, D] float32 to the scores s [N, K]; the
    base has one. `static_shapes` pads steps to a few shapes, which a GPU captures and replays; on a CPU it only costs.
    `reuse_prefixes` lets a new session find what it shares with one that ended. The model serves engines alone from now
    on: `LanguageModel.prepare_for_steps`.
    """

    def __init__(
        self,
        model: LanguageModel,
        sessions: int,
        context: int,
        head: torch.nn.Module | None = None,
        static_shapes: bool = False,
        reuse_prefixes: bool = True,
    ) -> None:
        self.sessions = sessions
        self.context = context
        self._model = model
        self._head = head
        self._slots = SlotTable(sessions, keeps_closed=reuse_prefixes)
        model.prepare_for_steps(context)
        self._cache = KVCache(sessions, context, model.device)
        self._forward: CapturedForward | PackedForward = (CapturedForward if static_shapes else PackedForward)(
            model, self._cache
        )
        try:
            self._forward([Row(self._cache.spare, 0, (0,))], [0])  # takes the memory
        except ColllmError as error:
            raise ColllmError(f"{model.name}: cannot be served: {error}") from error
        if (others := model.layers - self._cache.layers) > 0:
            raise ColllmError(
                f"{model.name}: cannot be served: of its {model.layers} layers {others} keep something else of a text "
                "than keys and values"
            )

    @torch.inference_mode()
    def extend(self, requests: Sequence[Extend]) -> list[Reply]:
        """Serves requests of different sessions, at most `sessions` of them, in one forward pass."""
        busy = {request.session for request in requests}
        if len(busy) < len(requests) or len(busy) > self.sessions:
            raise ValueError(f"{len(requests)} requests of {len(busy)} sessions for an engine of {self.sessions}")
        replies: dict[str, Reply] = {}
        admitted = []
        for request in requests:
            admission = self._admit(request, busy)
            if isinstance(admission, _Admitted):
                admitted.append(admission)
            else:
                replies[request.session] = admission
        replies.update(self._step(admitted))
        return [replies[request.session] for request in requests]

    def close(self, session: str) -> None:
        """Ends a session; one that is not known (evicted, never opened) is no error."""
        self._slots.close(session)

    @property
    def session_count(self) -> int:
        return len(self._slots)

    @property
    def evictions(self) -> int:
        """How many open sessions had to make room so far."""
        return self._slots.evictions

    def _admit(self, request: Extend, busy: Set[str]) -> _Admitted | Behind | Failed:
        if request.end > self.context:
            return _failed(request, f"{request.end} tokens are more than the engine's context, {self.context}")
        named = request.tokens + request.gold
        if not 0 <= min(named) <= max(named) < self._model.vocab_size:
            return _failed(request, f"a token is none of the vocabulary's {self._model.vocab_size}")
        slot = self._slots.get(request.session)
        have = len(slot.tokens) if slot else 0
        if have < request.start:
            return Behind(request.session, request.number, have)
        if slot is None:
            slot = self._slots.open(request.session, request.tokens, busy)
        # What lies there already is not computed again, but for the tokens after which an answer is wanted.
        known = common_prefix(slot.tokens[request.start :], list(request.tokens))
        skipped = min(known, len(request.tokens) - request.want)
        row = Row(slot.index, request.start + skipped, request.tokens[skipped:])
        return _Admitted(request, slot, row)

    def _step(self, admitted: list[_Admitted]) -> dict[str, Reply]:
        work = sorted((one for one in admitted if one.row.tokens), key=lambda one: in_step_order(one.row))
        try:
            choices = self._choices(work) if work else []
        except Exception:
            for one in work:  # some layers may have stored the new tokens, others not
                self._slots.drop(one.request.session)
            raise
        chosen = {}
        for one in work:
            chosen[one.request.session] = tuple(choices[: one.request.want])
            del choices[: one.request.want]
        return {one.request.session: self._reply(one, chosen.get(one.request.session, ())) for one in admitted}

    def _reply(self, one: _Admitted, choices: tuple[Choice, ...]) -> Extended | Failed:
        """What became of a request; where log-probs or scores are not finite, the session ends."""
        one.slot.tokens[one.row.start :] = one.row.tokens
        if all(math.isfinite(number) for choice in choices for number in (choice.logprob, *(choice.scores or ()))):
            return _extended(one.request, choices)
        self._slots.drop(one.request.session)
        self._cache.clear(one.slot.index)
        return _failed(one.request, NOT_FINITE)

    def _choices(self, work: Sequence[_Admitted]) -> list[Choice]:
        """What is wanted of each row, one after the other."""
        logits, hidden = self._forward([one.row for one in work], [one.request.want for one in work])
        indices = [one.request.end - back for one in work for back in reversed(range(one.request.want))]
        requests = [one.request for one in work for _ in range(one.request.want)]
        logprobs = torch.log_softmax(logits, dim=-1)
        tokens = choose(logprobs, indices, [request.sampling for request in requests])[:, None]
        top = min(max((request.top for request in requests), default=0), logprobs.shape[1])
        told = [tokens, logprobs.gather(1, tokens)]
        if top:
            likeliest = logprobs.topk(top)
            told += [likeliest.indices, likeliest.values]
        if has_gold := any(request.gold for request in requests):
            gold = [token for one in work for token in one.request.gold or (0,) * one.request.want]
            told.append(logprobs.gather(1, torch.tensor(gold, device=logits.device)[:, None]))
        if has_entropy := any(request.more == "entropy" for request in requests):
            told.append(torch.special.entr(logprobs.exp()).sum(dim=-1, keepdim=True))
        if self._head is not None:
            told.append(self._head(hidden.float()))
        # One transfer, and with it the only wait for the device.
        rows = torch.cat([each.double() for each in told], dim=1).tolist()
        return [
            _choice(request, row, top, has_gold, has_entropy, distribution)
            for request, row, distribution in zip(requests, rows, _distributions(logprobs, requests), strict=True)
        ]


def _distributions(logprobs: torch.Tensor, requests: Sequence[Extend]) -> list[bytes | None]:
    """The log-probs [N, V] of the rows that are told whole."""
    asked = [i for i, request in enumerate(requests) if request.more == "distribution"]
    distributions: list[bytes | None] = [None] * len(requests)
    if asked:
        for i, row in zip(asked, logprobs[asked].cpu().numpy().astype("<f4"), strict=True):
            distributions[i] = row.tobytes()
    return distributions


def _choice(
    request: Extend, row: Sequence[float], top: int, has_gold: bool, has_entropy: bool, distribution: bytes | None
) -> Choice:
    """`row`: token, log-prob, the `top` likeliest tokens, their log-probs, then for all rows where any asks for it the
    gold token's log-prob and the entropy, and the scores.
    """
    token, logprob, *rest = row
    likeliest = zip(map(int, rest[: request.top]), rest[top : top + request.top], strict=True) if request.top else ()
    rest = rest[2 * top :]
    gold = rest.pop(0) if has_gold else None
    entropy = rest.pop(0) if has_entropy else None
    return Choice(
        token=int(token),
        logprob=logprob,
        scores=tuple(rest) or None,
        gold_logprob=gold if request.gold else None,
        top=tuple(likeliest),
        entropy=entropy if request.more == "entropy" else None,
        distribution=distribution,
    )


def _extended(request: Extend, choices: tuple[Choice, ...]) -> Extended:
    return Extended(request.session, request.number, request.end + 1 - request.want, choices)


def _failed(request: Extend, reason: str) -> Failed:
    return Failed(request.session, request.number, reason)
