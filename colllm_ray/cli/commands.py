"""The sub-commands: each calls the functions of its room."""

from __future__ import annotations

import argparse
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

from colllm_ray.errors import ColllmError

# Rooms are imported by the commands that need them, and after the user's file is read: neither `colllm --help` nor an
# error in the file should wait for torch and Ray.


def do_score(args: argparse.Namespace) -> None:
    from colllm_ray.config import Collaboration

    collaboration = Collaboration.load(args.config)

    from colllm_ray.models.members import check_members
    from colllm_ray.ray_session import ray_session
    from colllm_ray.scoring.score import score

    check_members(collaboration)  # before Ray starts processes
    with ray_session(args.address, collaboration):
        failed = score(collaboration, args.out, args.only, args.from_serve)
    for one in failed:
        print(f"left out: {one}")


def do_train(args: argparse.Namespace) -> None:
    from colllm_ray.config import Collaboration

    collaboration = Collaboration.load(args.config)

    from colllm_ray.models.members import check_members
    from colllm_ray.ray_session import ray_session
    from colllm_ray.training.train import train

    check_members(collaboration)  # before Ray starts processes
    with ray_session(args.address, collaboration):
        train(collaboration, args.out)


def do_calibrate(args: argparse.Namespace) -> None:
    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration)

    from colllm_ray.evaluation.task import Task

    task = Task.load(args.task) if args.task else Task.of(args.data or trained.collaboration.data.validation)

    from colllm_ray.evaluation.calibrate import calibrate_folder
    from colllm_ray.evaluation.report import calibration_table
    from colllm_ray.models.members import check_members
    from colllm_ray.progress import results_console
    from colllm_ray.ray_session import ray_session

    check_members(trained.collaboration)  # before Ray starts processes
    with ray_session(args.address, trained.collaboration):
        calibrated = calibrate_folder(trained, args.collaboration, task, args.steps)
    console = results_console()
    console.print(calibration_table(calibrated.calibration))
    console.print(
        f"threshold {calibrated.calibration.threshold:.6g}; found in {calibrated.passes} forward passes, "
        f"those of decoding the data {calibrated.decodings:.1f} times"
    )


def do_evaluate(args: argparse.Namespace) -> None:
    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration)

    from colllm_ray.evaluation.task import Task

    tasks = [Task.load(path) for path in args.task or ()] or [Task.of(args.data)]

    from colllm_ray.evaluation.compared import Compared
    from colllm_ray.evaluation.evaluate import evaluate
    from colllm_ray.evaluation.report import results_table
    from colllm_ray.models.members import check_members
    from colllm_ray.progress import results_console
    from colllm_ray.ray_session import ray_session
    from colllm_ray.storage import location

    compared = Compared.of(trained, dict(args.also or ()))
    out = location(args.collaboration).parent / "evaluation" if args.out is None else location(args.out)
    console = results_console()
    check_members(trained.collaboration.with_guests(compared.guests))  # before Ray starts processes
    with ray_session(args.address, trained.collaboration.with_guests(compared.guests)):
        for evaluation in evaluate(trained, tasks, args.methods, out, compared, args.validation, args.curve):
            console.print(results_table(evaluation))
            console.print(f"report: {out / evaluation.task / 'report.html'}", soft_wrap=True)


def do_serve(args: argparse.Namespace) -> None:
    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration or _lab(args.address)).below(args.route_prefix)

    from colllm_ray.models.members import check_members
    from colllm_ray.ray_session import ray_session
    from colllm_ray.serving.api.keys import take_keys
    from colllm_ray.serving.application import serving_http, start_http

    collaboration = trained.collaboration
    keys = take_keys(collaboration.serving.api_keys)  # both before Ray starts processes
    check_members(collaboration)
    at = trained, args.host, args.port, keys
    with (
        ray_session(args.address, collaboration),
        # A Ray of its own takes Serve along when it ends.
        serving_http(*at) if args.address else nullcontext(start_http(*at)) as url,
    ):
        print(f"{collaboration.name} answers at {url}/v1/chat/completions; stop with Ctrl-C", flush=True)
        if collaboration.serving.page:
            print(f"people can ask at {url}", flush=True)
        threading.Event().wait()


def do_deploy(args: argparse.Namespace) -> None:
    address = _cluster(args)

    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration).below(args.route_prefix)

    from colllm_ray.ray_session import joined_cluster
    from colllm_ray.serving.api.keys import take_keys
    from colllm_ray.serving.application import deploy_http

    keys = take_keys(trained.collaboration.serving.api_keys)
    with joined_cluster(address):
        url = deploy_http(trained, args.host, args.port, keys)
    print(f"{trained.collaboration.name} answers at {url}/v1/chat/completions; `serve shutdown` stops it")


def do_plan(args: argparse.Namespace) -> None:
    from colllm_ray.config import Collaboration

    collaboration = Collaboration.load(args.config)

    from rich.console import Console

    from colllm_ray.ray_session import joined_cluster
    from colllm_ray.serving.placement.nodes import node_rooms
    from colllm_ray.serving.placement.plan import planned
    from colllm_ray.serving.placement.tables import plan_table

    rooms = None
    if args.address is not None:
        with joined_cluster(args.address):
            rooms = node_rooms()
    plans = planned(collaboration, rooms)
    Console().print(plan_table(collaboration.name, plans, rooms is not None))
    if any(plan.missing for plan in plans):
        sys.exit(1)


def do_status(args: argparse.Namespace) -> None:
    address = _cluster(args)

    from rich.console import Console

    from colllm_ray.ray_session import joined_cluster
    from colllm_ray.serving.deployed import deployed
    from colllm_ray.serving.placement.nodes import node_rooms
    from colllm_ray.serving.placement.tables import status_table
    from colllm_ray.serving.placement.waiting import demands

    with joined_cluster(address):
        table = status_table(deployed(), node_rooms(), demands())
    Console().print(table)


def _cluster(args: argparse.Namespace) -> str:
    if args.address is None:
        raise ColllmError("which cluster? give its --address, or set RAY_ADDRESS")
    address: str = args.address
    return address


def _lab(address: str | None) -> Path:
    from colllm_ray.lab.collaboration import trained_lab

    return trained_lab(address)


def do_ask(args: argparse.Namespace) -> None:
    from rich.console import Console

    from colllm_ray.evaluation.colours import coloured_answer

    if args.target is not None and args.target.startswith(("http://", "https://")):
        from colllm_ray.serving.ask_server import ask_server

        answer = ask_server(args.target, args.prompt)
    else:
        from colllm_ray.serving.ask_folder import ask_folder

        answer = ask_folder(args.target or _lab(args.address), args.prompt)
    Console().print(coloured_answer(answer.trace, answer.members))


def do_demo(args: argparse.Namespace) -> None:
    from colllm_ray.lab.demo import demo

    demo(args.out, args.address)


def do_lab_build(args: argparse.Namespace) -> None:
    from colllm_ray.lab.build import build_lab
    from colllm_ray.lab.recipe import Recipe

    recipe = Recipe(
        domains=tuple(args.domains.split(",")),
        facts=args.facts,
        seed=args.seed,
        base=args.base,
        expert=args.expert,
        base_steps=args.base_steps,
        expert_steps=args.expert_steps,
    )
    build_lab(args.out, recipe)
