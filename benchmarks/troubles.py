"""Troubles that a served collaboration is put to, and what clients notice of each."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import Asked, ask, differing, load, lost, quantiles, right_answers
from benchmarks.options import Amount
from benchmarks.report import Row
from benchmarks.town import AT_ONCE, Town, signal_to, with_experts
from colllm_ray.config import ExpertConfig

EXPERT_KILL_EVERY_S = 5.0
ROUTER_KILL_EVERY_S = 10.0
KILLS_APART = 2
CUTS_S = (4.0, 60.0)
SLOW_BITS_PER_S = 60_000
EVICTIONS = "ray_colllm_evictions_total"
IMPATIENT_S = 1.0  # how long a request waits for an expert where all its replicas were killed: less than a start takes


@dataclass(frozen=True)
class Size:
    """How much is done: `answers` at least in each trouble; questions: all where nothing is said."""

    answers: int
    expert_kills: int
    router_kills: int
    questions: int | None = None


SIZES: dict[Amount, Size] = {
    "full": Size(300, 12, 6),
    "quick": Size(24, 2, 1),
    "smoke": Size(4, 1, 0, questions=2),
}


@dataclass(frozen=True)
class Scene:
    """Where troubles happen, and `calm`: the same load without any."""

    place: Town
    size: Size
    calm: Sequence[Asked]

    @property
    def experts(self) -> list[str]:
        return [f"Expert-{name}" for name in self.place.experts]

    def row(self, trouble: str, asked: Sequence[Asked], whole_s: float = 0.0, **kills: int) -> Row:
        """A row of the report; `told` is why the first of the lost answers was lost."""
        p50, p99 = quantiles(asked)
        return {
            "trouble": trouble,
            "answers": len(asked),
            "lost": len(lost(asked)),
            "differing": len(differing(asked, self.place.expected)),
            **{kind: kills.get(kind, 0) for kind in ("expert_kills", "router_kills", "node_kills")},
            "p50_s": round(p50, 3),
            "p99_s": round(p99, 3),
            "longest_s": round(max(one.seconds for one in asked), 3),
            "added_p99_s": round(p99 - quantiles(self.calm)[1], 3),
            "whole_again_s": round(whole_s, 1),
            "told": next((one.error for one in lost(asked) if one.error), ""),
        }


async def rows_of(place: Town, size: Size, chosen: Sequence[str]) -> list[Row]:
    """The undisturbed run, and the troubles one after the other. Raises ValueError where the former loses an answer."""
    place.bodies = place.bodies[: size.questions]
    undisturbed = await load(place.url, place.bodies, 1, lambda n: n < len(place.bodies))
    if lost(undisturbed):
        raise ValueError(f"an answer is lost without any trouble: {lost(undisturbed)[0].error}")
    place.expected = [one.answer.tokens for one in sorted(undisturbed, key=lambda one: one.question)]
    calm = await load(place.url, place.bodies, AT_ONCE, lambda n: n < size.answers)
    scene = Scene(place, size, calm)
    right = f"{right_answers(place.data, undisturbed):.1%} of {place.data.name} right"
    rows = [{**scene.row("undisturbed", calm), "told": right}]
    for name in chosen:
        print(rows[-1], flush=True)
        rows += await TROUBLES[name](scene)
    return rows


async def _expert_kills(scene: Scene) -> list[Row]:
    kills = scene.size.expert_kills
    asked = await scene.place.under(scene.place.kill(scene.experts, kills, EXPERT_KILL_EVERY_S), scene.size.answers)
    return [scene.row("expert_kills", asked, await scene.place.whole(), expert_kills=kills)]


async def _router_kills(scene: Scene) -> list[Row]:
    kills = scene.size.router_kills
    asked = await scene.place.under(scene.place.kill(["Router"], kills, ROUTER_KILL_EVERY_S), scene.size.answers)
    return [scene.row("router_kills", asked, await scene.place.whole(), router_kills=kills)]


async def _kills_apart(scene: Scene) -> list[Row]:
    """Replicas of experts, and then of routers, that are killed once what was killed before is back."""
    place = scene.place

    async def trouble(deployments: Sequence[str]) -> None:
        for turn in range(KILLS_APART):
            killed = await place.kill(deployments[turn % len(deployments) :], 1, EXPERT_KILL_EVERY_S)
            await place.whole(but_for=killed)

    rows = []
    for kind, deployments in (("expert_kills", scene.experts), ("router_kills", ["Router"])):
        asked = await place.under(trouble(deployments), scene.size.answers)
        rows.append(scene.row(f"{kind}_apart", asked, place.last_whole_s, **{kind: KILLS_APART}))
    return rows


async def _node_kills(scene: Scene) -> list[Row]:
    place = scene.place
    asked = await place.under(_kill_node(place), scene.size.answers)
    row = scene.row("node_kills", asked, place.last_whole_s, node_kills=1)
    gone = [node for node, runs in place.cluster.nodes.items() if not runs]
    await asyncio.to_thread(place.cluster.start, *gone)
    return [row]


async def _kill_node(place: Town) -> None:
    """The one with most of the experts' replicas; until all that ran there runs elsewhere."""
    node, replicas = await place.fullest_node()
    await asyncio.to_thread(place.cluster.kill, node)
    await place.whole(but_for=replicas)


async def _all_at_once(scene: Scene) -> list[Row]:
    """Experts and routers, and then a node."""
    place, size = scene.place, scene.size

    async def trouble() -> None:
        await asyncio.gather(
            place.kill(scene.experts, size.expert_kills, EXPERT_KILL_EVERY_S),
            place.kill(["Router"], size.router_kills, ROUTER_KILL_EVERY_S),
        )
        await _kill_node(place)

    asked = await place.under(trouble(), size.answers)
    kills = {"expert_kills": size.expert_kills, "router_kills": size.router_kills, "node_kills": 1}
    return [scene.row("all_at_once", asked, place.last_whole_s, **kills)]


async def _all_gone(scene: Scene) -> list[Row]:
    """All replicas of one expert, asked for with either policy before Serve has started others."""
    place = scene.place
    expert, question = await _needed(place)
    rows = []
    for policy in ("continue", "fail"):
        for replica in await place.running(f"Expert-{expert}"):
            signal_to(replica, signal.SIGKILL)
        body = {**place.bodies[question], "colllm": {"policy": policy, "wait_s": IMPATIENT_S}}
        asked = await ask(place.url, question, body)
        row = scene.row(f"all_gone_{policy}", [asked], await place.whole(), expert_kills=2)
        told = asked.error or f"went on without {', '.join(asked.answer.lost_experts)}"
        rows.append({**row, "told": told})
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


async def _hung_expert(scene: Scene) -> list[Row]:
    """A replica that is stopped in the middle of its work, until Serve has replaced it."""
    place = scene.place
    expert, _ = await _needed(place)
    replica = (await place.running(f"Expert-{expert}"))[0]

    async def trouble() -> None:
        signal_to(replica, signal.SIGSTOP)
        await place.whole(but_for=[replica.name])

    try:
        asked = await place.under(trouble(), scene.size.answers)
    finally:
        signal_to(replica, signal.SIGKILL)
    return [scene.row("hung_expert", asked, place.last_whole_s)]


async def _controller_kills(scene: Scene) -> list[Row]:
    place = scene.place

    async def trouble() -> None:
        processes = await asyncio.to_thread(place.cluster.processes, "head")
        (controller,) = [pid for pid, command in processes.items() if "ServeController" in command]
        os.kill(controller, signal.SIGKILL)
        await asyncio.sleep(EXPERT_KILL_EVERY_S)
        await place.whole()

    return [scene.row("controller_kills", await place.under(trouble(), scene.size.answers), place.last_whole_s)]


async def _ingress_kills(scene: Scene) -> list[Row]:
    """What its connections carried is lost: their clients have to ask again."""
    place = scene.place
    asked = await place.under(place.kill(["Ingress"], 1, EXPERT_KILL_EVERY_S), scene.size.answers)
    whole_s = await place.whole()
    return [scene.row("ingress_kills", asked, whole_s)]


async def _full_experts(scene: Scene) -> list[Row]:
    """Experts with room for one text, although several are written at once; then as before."""
    place = scene.place

    def with_little_room(expert: ExpertConfig) -> ExpertConfig:
        return expert.model_copy(update={"replicas": 1, "max_sessions": 1})

    await place.update(with_experts(place.trained, with_little_room))
    await place.whole()
    before = await place.counted(EVICTIONS)
    asked = await load(place.url, place.bodies, AT_ONCE, lambda n: n < scene.size.answers)
    evictions = await place.counted(EVICTIONS) - before
    await place.update(place.trained)
    row = scene.row("full_experts", asked, await place.whole())
    return [{**row, "told": f"{evictions:.0f} times a text had to make room"}]


async def _updates(scene: Scene) -> list[Row]:
    """One expert gets other weights, and then its own again; answers in between may be of either."""
    place = scene.place
    first, second = place.trained.collaboration.experts[:2]

    def with_other_weights(expert: ExpertConfig) -> ExpertConfig:
        return expert.model_copy(update={"model": second.model}) if expert == first else expert

    rows = []
    for name, trained in (("update", with_experts(place.trained, with_other_weights)), ("update_back", place.trained)):
        asked = await place.under(place.update(trained), scene.size.answers)
        row = scene.row(name, asked, await place.whole())
        after = await load(place.url, place.bodies, AT_ONCE, lambda n: n < len(place.bodies))
        changed = len(differing(after, place.expected))
        del row["differing"]
        rows.append({**row, "told": f"{changed} of {len(after)} questions have another answer now"})
    return rows


async def _slow_link(scene: Scene) -> list[Row]:
    """A host to which little gets through."""
    place = scene.place
    node, _ = await place.fullest_node()
    host = place.cluster.host(node)
    await asyncio.to_thread(host.slow_down, SLOW_BITS_PER_S)
    try:
        asked = await load(place.url, place.bodies, AT_ONCE, lambda n: n < scene.size.answers)
    finally:
        await asyncio.to_thread(host.speed_up)
    return [scene.row("slow_link", asked, await place.whole())]


async def _cut_cable(scene: Scene) -> list[Row]:
    """A host that nothing reaches any more, for so short that the connections heal, and for longer."""
    place = scene.place

    async def trouble(seconds: float) -> None:
        node, _ = await place.fullest_node()
        host = place.cluster.host(node)
        await asyncio.to_thread(host.cut)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(host.mend)

    rows = []
    for seconds in CUTS_S:
        asked = await place.under(trouble(seconds), scene.size.answers)
        rows.append(scene.row(f"cut_{seconds:g}_s", asked, await place.whole()))
    return rows


TROUBLES: dict[str, Callable[[Scene], Awaitable[list[Row]]]] = {
    "expert_kills": _expert_kills,
    "router_kills": _router_kills,
    "kills_apart": _kills_apart,
    "node_kills": _node_kills,
    "all_at_once": _all_at_once,
    "all_gone": _all_gone,
    "hung_expert": _hung_expert,
    "controller_kills": _controller_kills,
    "ingress_kills": _ingress_kills,
    "full_experts": _full_experts,
    "updates": _updates,
    "slow_link": _slow_link,
    "cut_cable": _cut_cable,
}
