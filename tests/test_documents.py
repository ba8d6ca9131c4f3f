"""Whatever README and docs tell people to type is taken by what it is typed into, and what they name is there."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel
from ray.scripts.scripts import cli as ray_cli
from ray.serve.scripts import cli as serve_cli

from colllm_ray.cli.arguments import parser as colllm_parser
from colllm_ray.config import Collaboration
from colllm_ray.evaluation.task import Task
from colllm_ray.serving.api.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    ScoreRequest,
    TokenizeRequest,
)
from tests.documents import (
    DOCUMENTS,
    ROOT,
    Piece,
    anchors,
    commands,
    commented_commands,
    inline_codes,
    links,
    paragraphs,
    without_prefix,
)

# What no test can check, and why not.
UNCHECKED_COMMANDS = {
    "export": "sets a variable of the shell",
    "jq": "a program of its own, which is not installed with the project",
    "lm_eval": "runs as it stands in tests/serving/test_clients.py",
    "tensorboard": "a program of its own, which is not installed with the project",
}
UNCHECKED_PARAGRAPHS = {
    "RUN/scores/examples/part-00000.parquet   example_id, domain, input_ids, target_mask": "what a run folder holds",
    "P(X_t | X_<t) = sum_k P(Z_t = k | X_<t) * P_k(X_t | X_<t)        k = 0..M, K = M + 1 choices": "mathematics",
    "s_t = W h_t + b      s_t[0] = 0      P(Z_t = k) = softmax(s_t)[k]": "mathematics",
    "loss = -mean_t log sum_k softmax(s_t)[k] * P_k(x_t | x_<t)": "mathematics",
    "P(x_t | x_<t) = P_a(x_t | x_<t),    a = argmax_{k>=1} P(Z_t = k)  where d_t > eta,  else 0": "mathematics",
}
# Folders of a run.
ELSEWHERE = {"adapter/", "answers/"}

ENDPOINTS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/colllm/scores": ScoreRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
# What descriptions leave out that show one part of a file.
COLLABORATION = {
    "name": "clinic",
    "base": {"model": "base"},
    "experts": [{"name": "law", "model": "law"}],
    "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
}
TASK = {"name": "task", "data": "test.jsonl"}
REPOSITORY = [file for folder in ROOT.iterdir() if folder.name[0] != "." for file in (folder, *folder.rglob("*"))]
NAMES = {f"/{file.relative_to(ROOT)}" for file in REPOSITORY}
PATH = re.compile(r"[\w./-]+(\.(py|md|png|sh|toml)|/)|Makefile|Dockerfile")


def parse(parser: ArgumentParser, arguments: list[str]) -> None:
    """Raises ValueError with what the parser says against the arguments."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser.parse_args(arguments)
    except SystemExit as error:
        if error.code:
            raise ValueError(said.getvalue().strip().splitlines()[-1]) from error


def check_colllm(arguments: list[str]) -> None:
    """Where some are left out (`..`, or all but options' names), the command and its options are there."""
    parser, given = colllm_parser(), list(arguments)
    while given and not given[0].startswith("-") and parser._subparsers is not None:
        (choice,) = (action for action in parser._actions if isinstance(action.choices, dict))
        assert isinstance(choice.choices, dict)
        if given[0] not in choice.choices:
            raise ValueError(f"colllm has no command {given[0]}")
        parser = choice.choices[given.pop(0)]
    if ".." not in given and not all(word.startswith("--") for word in given):
        parse(colllm_parser(), arguments)
    for option in (word.partition("=")[0] for word in given if word.startswith("--")):
        if option not in parser._option_string_actions:
            raise ValueError(f"{parser.prog} has no option {option}")


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        name = arguments[1]
        module = import_module(f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name)
        parse(module.parser(), arguments[2:])
    elif arguments[0].startswith("jobs/"):
        assert (ROOT / arguments[0]).is_file(), f"{arguments[0]} is not there"
        parse(colllm_parser(), [Path(arguments[0]).stem, *arguments[1:]])
    else:
        check_python(["-m", arguments[0].removesuffix(".py").replace("/", "."), *arguments[1:]])


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if missing := {word for word in arguments if "=" not in word} - set(targets):
        raise ValueError(f"the Makefile has no target {', '.join(missing)}")


def check_curl(arguments: list[str]) -> None:
    path = re.sub(r"^(http://[^/]+|URL)", "", arguments[0])
    body = json.loads(arguments[arguments.index("-d") + 1])
    ENDPOINTS[path].model_validate(body)


def check_click(group: click.Command, arguments: list[str]) -> None:
    """The command, its options and arguments are those of a click program; what follows `--` is a command too."""
    command, given = group, list(arguments)
    while isinstance(command, click.Group):
        if not given or given[0] not in command.commands:
            raise ValueError(f"{command.name} has no command {given[:1]}")
        command = command.commands[given.pop(0)]
    if given or arguments in (["stop"],):
        with contextlib.suppress(click.exceptions.Exit):
            command.make_context(str(command.name), list(given))
    if "--" in given:
        check(given[given.index("--") + 1 :])
    for word in given:
        if is_command(word):
            check(without_prefix(shlex.split(word)))


def check_files(arguments: list[str]) -> None:
    for option, file in pairwise(arguments):
        if option == "-f" and "/" in file and not (ROOT / file).is_file() and not file.startswith("job/"):
            raise ValueError(f"{file} is not there")


def check_pip(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert arguments[0] == "install"
    for package in arguments[1:]:
        named = re.fullmatch(r"(\.|colllm-ray)\[(.*)\]", package)
        if named and (missing := set(named[2].split(",")) - set(extras)):
            raise ValueError(f"the project has no extra {', '.join(missing)}")


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "colllm": check_colllm,
    "python": check_python,
    "make": check_make,
    "curl": check_curl,
    "pip": check_pip,
    "kubectl": check_files,
    "docker": check_files,
    "ray": lambda arguments: check_click(ray_cli, arguments),
    "serve": lambda arguments: check_click(serve_cli, arguments),
}


def check(command: list[str]) -> None:
    if command[0] not in UNCHECKED_COMMANDS:
        CHECKS[command[0]](command[1:])


def is_command(text: str) -> bool:
    words = without_prefix(text.lstrip("# ").split())
    return len(words) > 1 and words[0] in {*CHECKS, *UNCHECKED_COMMANDS}


def check_yaml(content: dict[str, Any]) -> None:
    """A collaboration or a task, whole or a part."""
    if set(content) <= set(Collaboration.model_fields) and set(content) != {"name", "data", "columns"}:
        Collaboration.model_validate({**COLLABORATION, **content})
    else:
        Task.model_validate({**TASK, **content})


PARAGRAPHS = paragraphs()
COMMANDS = [
    (piece, command)
    for piece in PARAGRAPHS
    if is_command(next(line for line in piece.text.splitlines() if not line.startswith("#")))
    for command in commands(piece)
]
COMMANDS += [
    (piece, command)
    for piece in (*inline_codes(), *commented_commands())
    if is_command(piece.text)
    for command in commands(piece)
]


@pytest.mark.parametrize(("piece", "command"), COMMANDS, ids=str)
def test_a_command_is_taken_by_what_it_is_given_to(piece: Piece, command: list[str]) -> None:
    try:
        check(command)
    except (ValueError, KeyError, click.UsageError) as error:
        pytest.fail(f"{piece}: {error!r}")


def test_there_are_commands_of_every_kind() -> None:
    """A test that finds nothing to check passes."""
    assert {*CHECKS, *UNCHECKED_COMMANDS} - {"serve"} <= {command[0] for _, command in COMMANDS}
    assert len({piece.document for piece, _ in COMMANDS}) >= len(DOCUMENTS) - 3


OTHERS = [piece for piece in PARAGRAPHS if piece not in [command_piece for command_piece, _ in COMMANDS]]


@pytest.mark.parametrize("piece", OTHERS, ids=str)
def test_a_block_is_what_it_looks_like(piece: Piece) -> None:
    if piece.text.splitlines()[0] in UNCHECKED_PARAGRAPHS:
        return
    if piece.text.startswith("{"):
        json.loads(piece.text)
        return
    content = yaml.safe_load(piece.text)
    assert isinstance(content, dict), f"{piece}: neither a command, nor JSON, nor a description in YAML"
    check_yaml(content)


def test_nothing_is_listed_as_unchecked_that_no_document_has() -> None:
    first_lines = {piece.text.splitlines()[0] for piece in PARAGRAPHS}
    assert set(UNCHECKED_PARAGRAPHS) <= first_lines


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_to_what_is_there(document: Path) -> None:
    for link in links():
        if link.document != document or re.match(r"[a-z]+:", link.text):
            continue
        path, _, anchor = link.text.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link}: is not there"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_paths_of_this_repository_are_there(document: Path) -> None:
    for code in inline_codes():
        is_path = code.document == document and PATH.fullmatch(code.text) and code.text not in ELSEWHERE
        if is_path and not code.text.startswith(("/", "RUN", "DIR")):
            name = f"/{code.text.removeprefix('./').rstrip('/')}"
            assert any(one.endswith(name) for one in NAMES), f"{code}: is not there"


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("colllm scores clinic.yaml --out run", "no command scores"),
        ("colllm score clinic.yaml --output run", "required: --out"),
        ("colllm score .. --onyl law", "no option --onyl"),
        ("python -m benchmarks.decode --fast", "unrecognized arguments"),
        ("python benchmarks/decode.py --fast", "unrecognized arguments"),
        ("ray job submit --working-dir . -- python jobs/score.py clinic.yaml", "required: --out"),
        ("ray start --haed", "--haed"),
        ("ray exec clusters/aws.yaml 'KEY=x colllm srve lab'", "no command srve"),
        ("kubectl apply -f clusters/kuberay/raycluster.yml", "raycluster.yml is not there"),
        ("make demos", "no target demos"),
        ("pip install 'colllm-ray[evaluation]'", "no extra evaluation"),
        ("""curl URL/v1/completions -d '{"promt": "x"}'""", "promt"),
    ],
)
def test_what_does_not_run_is_found(command: str, wrong: str) -> None:
    ((words),) = commands(Piece(ROOT / "README.md", 1, command))
    with pytest.raises((ValueError, click.UsageError), match=wrong):
        check(words)
