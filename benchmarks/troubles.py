"""Troubles that a served collaboration is put to, and what clients notice of each."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import Asked, ask, differing, load, lost, quantiles, right_answers
from benchmarks.report import Row
from benchmarks.town import AT_ONCE, Town, signal_to, with_experts
from colllm_ray.config import ExpertConfig

EXPERT_KILL_EVERY_S = 5.0
ROUTER_KILL_EVERY_S = 10.0
CUTS_S = (4.0, 60.0)
SLOW_BITS_PER_S = 60_000
FEW_SESSIONS = 2
IMPATIENT_S = 1.0  # how long a request waits for an expert where all its replicas were killed: less than a start takes


@dataclass(frozen=True)
class Size:
    """How much is done: `answers` at least in each trouble."""

    answers: int
    expert_kills: int
    router_kills: int


FULL, QUICK = Size(300, 12, 6), Size(60, 3, 2)


async def rows_of(place: Town, size: Size, chosen: Sequence[str]) -> list[Row]:
    undisturbed = await load(place.url, place.bodies, 1, lambda n: n < len(place.bodies))
    assert not lost(undisturbed), lost(undisturbed)[0].error
    place.expected = [one.answer.tokens for one in sorted(undisturbed, key=lambda one: one.question)]
    calm = await load(place.url, place.bodies, AT_ONCE, lambda n: n < size.answers)
    right = f"{right_answers(place.data, undisturbed):.1%} of {place.data.name} right"
    rows = [{**_row(place, "undisturbed", calm, calm), "told": right}]
    print(rows[-1], flush=True)
    for name in chosen:
        for row in await TROUBLES[name](place, size, calm):
            rows.append(row)
            print(row, flush=True)
    return rows


def _row(place: Town, name: str, asked: list[Asked], calm: list[Asked], kills: int = 0, whole_s: float = 0.0) -> Row:
    p50, p99 = quantiles(asked)
    return {
        "trouble": name,
        "answers": len(asked),
        "lost": len(lost(asked)),
        "differing": len(differing(asked, place.expected)),
        "kills": kills,
        "p50_s": round(p50, 3),
        "p99_s": round(p99, 3),
        "longest_s": round(max(one.seconds for one in asked), 3),
        "added_p99_s": round(p99 - quantiles(calm)[1], 3),
        "whole_again_s": round(whole_s, 1),
        "told": next((one.error for one in lost(asked) if one.error), ""),
    }


async def _expert_kills(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    names = [f"Expert-{name}" for name in place.experts]
    asked = await place.under(place.kill(names, size.expert_kills, EXPERT_KILL_EVERY_S), size.answers)
    return [_row(place, "expert_kills", asked, calm, size.expert_kills, await place.whole())]


async def _router_kills(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    asked = await place.under(place.kill(["Router"], size.router_kills, ROUTER_KILL_EVERY_S), size.answers)
    return [_row(place, "router_kills", asked, calm, size.router_kills, await place.whole())]


async def _node_kills(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """A node with half of the experts' replicas, and what else Serve has put there."""
    node, whole_s = "experts-2", 0.0

    async def trouble() -> None:
        nonlocal whole_s
        gone = await place.replicas_on(node)
        await asyncio.to_thread(place.cluster.kill, node)
        whole_s = await place.whole(but_for=gone)

    asked = await place.under(trouble(), size.answers)
    await asyncio.to_thread(place.cluster.start, node)
    return [_row(place, "node_kills", asked, calm, 1, whole_s)]


async def _all_gone(place: Town, _size: Size, calm: list[Asked]) -> list[Row]:
    """All replicas of one expert, asked for with either policy before Serve has started others."""
    expert, question = await _needed(place)
    rows = []
    for policy in ("continue", "fail"):
        for replica in await place.running(f"Expert-{expert}"):
            signal_to(replica, signal.SIGKILL)
        body = {**place.bodies[question], "colllm": {"policy": policy, "wait_s": IMPATIENT_S}}
        asked = await ask(place.url, question, body)
        as_meant = (
            asked.error is None and asked.answer.lost_experts == [expert]
            if policy == "continue"
            else asked.error is not None and f"Expert-{expert}: no replica within" in asked.error
        )
        row = _row(place, f"all_gone_{policy}", [asked], calm, 2, await place.whole())
        rows.append({**row, "lost": int(not as_meant), "differing": 0, "told": asked.error or f"without {expert}"})
    return rows


async def _needed(place: Town) -> tuple[str, int]:
    """An expert, and a question to which it writes some of the answer."""
    for question, body in enumerate(place.bodies):
        asked = await ask(place.url, question, body)
        for _, trace in asked.answer.traces:
            for token in trace:
                if token["model"] in place.experts:
                    return token["model"], question
    raise ValueError("no question needs an expert")


async def _hung(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """A replica that is stopped in the middle of its work, until Serve has replaced it."""
    expert, _ = await _needed(place)
    replica = (await place.running(f"Expert-{expert}"))[0]
    whole_s = 0.0

    async def trouble() -> None:
        nonlocal whole_s
        signal_to(replica, signal.SIGSTOP)
        whole_s = await place.whole(but_for=[replica.name])

    try:
        asked = await place.under(trouble(), size.answers)
    finally:
        signal_to(replica, signal.SIGKILL)
    return [_row(place, "hung_expert", asked, calm, 1, whole_s)]


async def _controller_kills(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    async def trouble() -> None:
        (controller,) = [
            pid
            for pid, command in (await asyncio.to_thread(place.cluster.processes, "head")).items()
            if "ServeController" in command
        ]
        os.kill(controller, signal.SIGKILL)
        await asyncio.sleep(EXPERT_KILL_EVERY_S)
        await place.whole()

    asked = await place.under(trouble(), size.answers)
    return [_row(place, "controller_kills", asked, calm, 1, await place.whole())]


async def _ingress_kills(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """What its connections carried is lost: their clients have to ask again."""
    asked = await place.under(place.kill(["Ingress"], 1, EXPERT_KILL_EVERY_S), size.answers)
    return [_row(place, "ingress_kills", asked, calm, 1, await place.whole())]


async def _updates(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """One expert gets other weights, and then its own again; answers in between may be of either."""
    first, second = place.trained.collaboration.experts[:2]
    changed = with_experts(
        place.trained, lambda expert: expert.model_copy(update={"model": second.model}) if expert == first else expert
    )
    rows = []
    for name, trained in (("update", changed), ("update_back", place.trained)):
        asked = await place.under(place.update(trained), size.answers)
        whole_s = await place.whole()
        after = await load(place.url, place.bodies, AT_ONCE, lambda n: n < len(place.bodies))
        new = len(differing(after, place.expected))
        row = _row(place, name, asked, calm, 0, whole_s)
        rows.append({**row, "differing": 0, "told": f"{new} of {len(after)} questions have another answer now"})
    return rows


async def _full(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """Experts with room for fewer texts than are written at once; then as before."""

    def with_sessions(expert: ExpertConfig) -> ExpertConfig:
        return expert.model_copy(update={"max_sessions": FEW_SESSIONS})

    changed = with_experts(place.trained, with_sessions)
    await place.update(changed)
    await place.whole()
    asked = await load(place.url, place.bodies, AT_ONCE, lambda n: n < size.answers)
    await place.update(place.trained)
    return [_row(place, "full_experts", asked, calm, 0, await place.whole())]


async def _cut_cable(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """A host that nothing reaches any more, for so short that the connections heal, and for longer."""
    node = "experts-2"
    host = place.cluster.host(node)

    async def trouble(seconds: float) -> None:
        await place.replicas_on(node)
        await asyncio.to_thread(host.cut)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(host.mend)

    rows = []
    for seconds in CUTS_S:
        asked = await place.under(trouble(seconds), size.answers)
        rows.append(_row(place, f"cut_{seconds:g}_s", asked, calm, 1, await place.whole()))
    if not place.cluster.nodes[node]:  # Ray had given it up
        await asyncio.to_thread(place.cluster.start, node)
    return rows


async def _slow_link(place: Town, size: Size, calm: list[Asked]) -> list[Row]:
    """A host to which little gets through."""
    host = place.cluster.host("experts-2")
    await place.replicas_on("experts-2")
    await asyncio.to_thread(host.slow_down, SLOW_BITS_PER_S)
    try:
        asked = await load(place.url, place.bodies, AT_ONCE, lambda n: n < size.answers)
    finally:
        await asyncio.to_thread(host.speed_up)
    return [_row(place, "slow_link", asked, calm)]


Trouble = Callable[[Town, Size, list[Asked]], Awaitable[list[Row]]]
TROUBLES: dict[str, Trouble] = {
    "expert_kills": _expert_kills,
    "router_kills": _router_kills,
    "node_kills": _node_kills,
    "all_gone": _all_gone,
    "hung_expert": _hung,
    "controller_kills": _controller_kills,
    "ingress_kills": _ingress_kills,
    "full_experts": _full,
    "updates": _updates,
    "slow_link": _slow_link,
    "cut_cable": _cut_cable,
}
