"""`colllm`: one sub-command a stage, no logic of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from colllm_ray import __version__
from colllm_ray.errors import ColllmError

# Rooms are imported by the commands that need them, and after the user's file is read: neither `colllm --help` nor an
# error in the file should wait for torch and Ray.


def _score(args: argparse.Namespace) -> None:
    from colllm_ray.config import Collaboration

    collaboration = Collaboration.load(args.config)

    from colllm_ray.ray_session import ray_session
    from colllm_ray.scoring.score import score

    with ray_session(args.address, collaboration):
        failed = score(collaboration, args.out, args.only, args.from_serve)
    for one in failed:
        print(f"left out: {one}")


def _train(args: argparse.Namespace) -> None:
    from colllm_ray.config import Collaboration

    collaboration = Collaboration.load(args.config)

    from colllm_ray.ray_session import ray_session
    from colllm_ray.training.train import train

    with ray_session(args.address, collaboration):
        train(collaboration, args.out)


def _evaluate(args: argparse.Namespace) -> None:
    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration)

    from rich.console import Console

    from colllm_ray.evaluation.evaluate import evaluate
    from colllm_ray.evaluation.report import results_table
    from colllm_ray.ray_session import ray_session
    from colllm_ray.storage import is_local, location, write_whole

    measures = None if args.json is None else location(args.json)
    if measures is not None and is_local(measures) and not measures.parent.is_dir():
        raise ColllmError(f"{measures}: its folder does not exist")
    with ray_session(args.address, trained.collaboration):
        evaluation = evaluate(trained, args.data, location(args.collaboration).parent)
    Console().print(results_table(evaluation))
    if measures is not None:
        write_whole(measures, (json.dumps(evaluation.to_json(), indent=1) + "\n").encode())


def _serve(args: argparse.Namespace) -> None:
    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration or _lab(args.address))

    from colllm_ray.ray_session import ray_session
    from colllm_ray.serving.api.keys import take_keys
    from colllm_ray.serving.application import serving_http

    collaboration = trained.collaboration
    keys = take_keys(collaboration.serving.api_keys)  # before Ray starts processes
    with ray_session(args.address, collaboration), serving_http(trained, args.host, args.port, keys) as url:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):  # only now: Ray sets handlers of its own when it starts
            signal.signal(number, lambda *_: stop.set())
        print(f"{collaboration.name} answers at {url}/v1/chat/completions; stop with Ctrl-C", flush=True)
        if collaboration.serving.page:
            print(f"people can ask at {url}", flush=True)
        stop.wait()


def _deploy(args: argparse.Namespace) -> None:
    address = _cluster(args)

    from colllm_ray.deferral.trained import TrainedCollaboration

    trained = TrainedCollaboration.load(args.collaboration)

    from colllm_ray.ray_session import joined_cluster
    from colllm_ray.serving.api.keys import take_keys
    from colllm_ray.serving.application import deploy_http

    keys = take_keys(trained.collaboration.serving.api_keys)
    with joined_cluster(address):
        url = deploy_http(trained, args.host, args.port, keys)
    print(f"{trained.collaboration.name} answers at {url}/v1/chat/completions; `serve shutdown` stops it")


def _plan(args: argparse.Namespace) -> None:
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


def _status(args: argparse.Namespace) -> None:
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


def _ask(args: argparse.Namespace) -> None:
    from rich.console import Console

    from colllm_ray.evaluation.colours import coloured_answer

    if args.target is not None and args.target.startswith(("http://", "https://")):
        from colllm_ray.serving.ask_server import ask_server

        answer = ask_server(args.target, args.prompt)
    else:
        from colllm_ray.serving.ask_folder import ask_folder

        answer = ask_folder(args.target or _lab(args.address), args.prompt)
    Console().print(coloured_answer(answer.trace, answer.members))


def _demo(args: argparse.Namespace) -> None:
    from colllm_ray.lab.demo import demo

    demo(args.out, args.address)


def _lab_build(args: argparse.Namespace) -> None:
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


def _parser() -> argparse.ArgumentParser:
    from colllm_ray.lab.recipe import Recipe, Shape

    def size(text: str) -> Shape:
        layers, width = text.split("x")
        return Shape(int(layers), int(width))

    parser = argparse.ArgumentParser(prog="colllm", description="Several language models write one answer together.")
    parser.add_argument("--version", action="version", version=__version__)
    on_ray = argparse.ArgumentParser(add_help=False)
    on_ray.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS"),
        help="the Ray cluster to run in (default: $RAY_ADDRESS; without it a Ray of this machine, stopped at the end)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: str, run: object, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=does, parents=parents)
        added.set_defaults(run=run)
        return added

    for name, does, run in (
        ("score", "every model over the data: RUN/scores", _score),
        ("train", "the head learns who should write: RUN/collaboration", _train),
    ):
        stage = command(name, does, run, on_ray)
        stage.add_argument("config", metavar="CONFIG", help="the collaboration's YAML file")
        stage.add_argument(
            "--out", required=True, metavar="RUN", help="the run's folder: a path, or a URI such as s3://bucket/run"
        )
        if name == "score":
            stage.add_argument("--from-serve", metavar="URL|APP", help="let the experts of a running application score")
            stage.add_argument(
                "--only", metavar="MEMBER", help="score one member alone, and replace what other weights of it left"
            )

    evaluate = command("evaluate", "each model alone, the collaboration, who wrote what", _evaluate, on_ray)
    evaluate.add_argument("collaboration", metavar="RUN/collaboration")
    evaluate.add_argument("--data", required=True, help="file with held-out rows, path or URI; columns as in training")
    evaluate.add_argument("--json", metavar="FILE", help="also write the measures here: path or URI")

    serve = command("serve", "answer over HTTP (default: the lab)", _serve, on_ray)
    serve.add_argument("collaboration", nargs="?", metavar="RUN/collaboration")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)

    deploy = command("deploy", "let a cluster answer over HTTP, or update what it answers with", _deploy, on_ray)
    deploy.add_argument("collaboration", metavar="RUN/collaboration")
    deploy.add_argument("--host", default="0.0.0.0", help="of each node, where nothing is deployed yet (%(default)s)")
    deploy.add_argument("--port", type=int, default=8000)

    plan = command("plan", "what each copy of a model needs and where it can run", _plan, on_ray)
    plan.add_argument("config", metavar="CONFIG", help="the collaboration's YAML file")

    command("status", "what runs where on a cluster, and what is missing for what does not", _status, on_ray)

    ask = command("ask", "one answer, each token in its author's colour (default: of the lab)", _ask)
    ask.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="Ray that trains the lab's head, once")
    ask.add_argument("target", nargs="?", metavar="RUN/collaboration|URL")
    ask.add_argument("prompt")

    demo = command("demo", "all of it on the lab, then a report", _demo, on_ray)
    demo.add_argument("--out", type=Path, default=Path("colllm-demo"), metavar="DIR")

    lab = commands.add_parser("lab", help="the small world that ships with the project")
    build = lab.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "build", help="train the lab's models again", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    build.set_defaults(run=_lab_build)
    default = Recipe()
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    build.add_argument("--domains", default=",".join(default.domains), help="experts, by domain")
    build.add_argument("--facts", type=int, default=default.facts, help="facts in each domain")
    build.add_argument("--seed", type=int, default=default.seed, help="of facts, splits and weights")
    for name, shape in (("base", default.base), ("expert", default.expert)):
        is_now = f"{shape.layers}x{shape.width}"
        build.add_argument(f"--{name}", type=size, default=is_now, metavar="LAYERSxWIDTH", help=f"size of the {name}")
    build.add_argument("--base-steps", type=int, default=default.base_steps, help="training steps of the base")
    build.add_argument("--expert-steps", type=int, default=default.expert_steps, help="training steps of an expert")
    return parser


def main(*stage: str) -> None:
    """Runs the command line, of one stage if it is given.

    Exit status 1 and one line on standard error where the user's input is wrong.
    """
    args = _parser().parse_args([*stage, *sys.argv[1:]])
    try:
        args.run(args)
    except Exception as error:
        if (users := _users_error(error)) is None:
            raise
        sys.exit(f"error: {users}")


def _users_error(error: BaseException | None) -> ColllmError | None:
    """The ColllmError that an error comes from, also where it was raised in a Ray worker."""
    while error is not None and not isinstance(error, ColllmError):
        error = error.__cause__
    return error


if __name__ == "__main__":
    main()
