"""What the command line takes."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import NoReturn

from colllm_ray import __version__
from colllm_ray.cli import commands
from colllm_ray.errors import ColllmError
from colllm_ray.ray_address import AUTO, LOCAL, host_and_port


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _named(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, folder


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; they go from 1 to {2**16 - 1}")
    return int(text)


def _route_prefix(text: str) -> str:
    from colllm_ray.config.serving import ROUTE_PREFIX

    if not re.fullmatch(ROUTE_PREFIX, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no path such as /law")
    return text


def _cluster(text: str) -> str | None:
    """An address of Ray, checked as far as it can be without asking; None for a Ray of this machine."""
    if text in ("", LOCAL):
        return None
    if text != AUTO:
        try:
            host_and_port(text)
        except ColllmError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return text


def parser() -> argparse.ArgumentParser:
    from colllm_ray.lab.recipe import Recipe, Shape

    def size(text: str) -> Shape:
        layers, width = text.split("x")
        return Shape(int(layers), int(width))

    whole = _Parser(prog="colllm", description="Several language models write one answer together.")
    whole.add_argument("--version", action="version", version=__version__)
    on_ray = _Parser(add_help=False)
    on_ray.add_argument(
        "--address",
        type=_cluster,
        default=os.environ.get("RAY_ADDRESS"),
        help="the Ray cluster to run in (default: $RAY_ADDRESS; without it a Ray of this machine, stopped at the end)",
    )
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: str, run: object, *parents: _Parser) -> _Parser:
        added = subparsers.add_parser(name, help=does, description=does, parents=parents)
        added.set_defaults(run=run)
        return added

    for name, does, run in (
        ("score", "every model over the data: RUN/scores", commands.do_score),
        ("train", "the head learns who should write: RUN/collaboration", commands.do_train),
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

    calibrate = command(
        "calibrate", "the threshold that is best when answers are decoded", commands.do_calibrate, on_ray
    )
    calibrate.add_argument("collaboration", metavar="RUN/collaboration")
    data = calibrate.add_mutually_exclusive_group()
    data.add_argument("--data", help="file with validation rows, path or URI (default: those of the training)")
    data.add_argument("--task", metavar="YAML", help="or a task, whose metric counts")
    calibrate.add_argument("--steps", type=_count, default=20, help="shares of tokens that are tried (%(default)s)")

    evaluate = command(
        "evaluate", "the collaboration, each model alone, rivals: how good, at what price", commands.do_evaluate, on_ray
    )
    evaluate.add_argument("collaboration", metavar="RUN/collaboration")
    data = evaluate.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", help="file with held-out rows, path or URI; columns as in training")
    data.add_argument("--task", metavar="YAML", action="append", help="a task; may be given several times")
    evaluate.add_argument(
        "--methods",
        type=lambda names: names.split(","),
        default=["alone"],
        metavar="A,B,..",
        help="beside the collaboration: members, random, oracle, ..; `all`; or `alone`, each model (default)",
    )
    evaluate.add_argument(
        "--also",
        type=_named,
        action="append",
        metavar="NAME=FOLDER",
        help="another model of the same tokenizer; or another RUN/collaboration of the same members, for its head",
    )
    evaluate.add_argument("--validation", metavar="DATA", help="what rivals choose their thresholds on, as --data")
    evaluate.add_argument("--curve", action="store_true", help="also decode at all thresholds of the calibration")
    evaluate.add_argument(
        "--out", metavar="DIR", help="where answers and reports of each task go (default: RUN/evaluation)"
    )

    serve = command("serve", "answer over HTTP (default: the lab)", commands.do_serve, on_ray)
    serve.add_argument("collaboration", nargs="?", metavar="RUN/collaboration")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8000)

    deploy = command(
        "deploy", "let a cluster answer over HTTP, or update what it answers with", commands.do_deploy, on_ray
    )
    deploy.add_argument("collaboration", metavar="RUN/collaboration")
    deploy.add_argument("--host", default="0.0.0.0", help="of each node, where nothing is deployed yet (%(default)s)")
    deploy.add_argument("--port", type=_port, default=8000)
    for answers in (serve, deploy):
        answers.add_argument(
            "--route-prefix",
            type=_route_prefix,
            metavar="/PATH",
            help="below which it answers (default: `serving.route_prefix`, or /)",
        )

    plan = command("plan", "what each copy of a model needs and where it can run", commands.do_plan, on_ray)
    plan.add_argument("config", metavar="CONFIG", help="the collaboration's YAML file")

    command("status", "what runs where on a cluster, and what is missing for what does not", commands.do_status, on_ray)

    ask = command("ask", "one answer, each token in its author's colour (default: of the lab)", commands.do_ask)
    ask.add_argument(
        "--address", type=_cluster, default=os.environ.get("RAY_ADDRESS"), help="Ray that trains the lab's head, once"
    )
    ask.add_argument("target", nargs="?", metavar="RUN/collaboration|URL")
    ask.add_argument("prompt")

    demo = command("demo", "all of it on the lab, then a report", commands.do_demo, on_ray)
    demo.add_argument("--out", type=Path, default=Path("colllm-demo"), metavar="DIR")

    lab = subparsers.add_parser("lab", help="the small world that ships with the project")
    build = lab.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "build", help="train the lab's models again", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    build.set_defaults(run=commands.do_lab_build)
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
    return whole
