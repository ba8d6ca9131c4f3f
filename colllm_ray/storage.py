"""Files and folders on any storage: a path of this machine, or a URI such as `s3://bucket/run` that fsspec knows.

Files appear whole or not at all, under their name; folders have no such promise on object stores, so that what makes a
folder complete is the file that is written last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem
from upath import UPath

from colllm_ray.errors import ColllmError

FILES_AT_ONCE = 16

T = TypeVar("T")
R = TypeVar("R")

Where = str | Path | UPath
"""What a user names a file or folder by: a path or a URI."""


def location(path: Where) -> UPath:
    """A path or URI as something to read, write and list; relative paths are of the working folder.

    Raises ColllmError for a protocol that fsspec does not know or has no driver for, or where nobody answers.
    """
    try:
        # What other processes write has to be seen, so listings are not kept.
        found = UPath(path) if is_local(path) else UPath(path, use_listings_cache=False)
        _ = found.fs  # the driver is loaded here, rather than deep in a job
    except (ValueError, ImportError) as error:
        raise ColllmError(f"{path}: there is no storage for it here: {error}") from error
    except OSError as error:
        raise ColllmError(f"{path}: cannot be reached: {error.strerror or error}") from error
    return found.absolute() if is_local(path) else found


def is_local(path: Where) -> bool:
    """Whether it is a plain path of this machine."""
    return isinstance(path, Path) or "://" not in str(path)


@contextmanager
def written_whole(path: UPath) -> Iterator[IO[bytes]]:
    """A file to write to, which gets its name when the body has ended without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.rename(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which it is
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def write_whole(path: UPath, content: bytes) -> None:
    """Writes a file; one of that name is replaced at once."""
    with written_whole(path) as file:
        file.write(content)


def names_in(folder: UPath) -> set[str]:
    """What lies in a folder; nothing where there is none."""
    return {child.name for child in folder.iterdir()} if folder.is_dir() else set()


def for_each(do: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What `do` returns for each item, several at once: most of the time of a small file is the way to it."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        return list(threads.map(do, items))


def delete_folder(folder: UPath) -> None:
    """Deletes a folder with all that lies in it, if it is there."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)


def give_usual_modes(folder: Path) -> None:
    """Lets those read a folder who may read new files: safetensors writes for its user alone."""
    mask = os.umask(0o077)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


@contextmanager
def local_file(path: UPath) -> Iterator[Path]:
    """The file on this machine's own disk, for what reads nothing else: itself, or a copy for as long as the body runs.

    Raises FileNotFoundError where there is none.
    """
    if is_local(path):
        yield Path(str(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


@contextmanager
def written_folder(folder: UPath, last: str) -> Iterator[Path]:
    """A folder of this machine to write to, which takes the place of `folder` when the body has ended without an error.

    Where folders cannot be renamed, its files are copied one by one, and `last`, without which a reader must not take
    the folder for whole, is deleted first and copied last.
    """
    if is_local(folder):
        unfinished = Path(str(folder.with_name(f"{folder.name}.tmp")))
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        give_usual_modes(unfinished)
        delete_folder(folder)
        unfinished.rename(str(folder))
        return
    with tempfile.TemporaryDirectory() as name:
        unfinished = Path(name)
        yield unfinished
        (folder / last).unlink(missing_ok=True)
        delete_folder(folder)
        files = [path for path in unfinished.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path == unfinished / last):
            target = folder / path.relative_to(unfinished).as_posix()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.fs.put_file(str(path), target.path)


def arrow_filesystem(path: UPath) -> tuple[FileSystem, str]:
    """What Ray Train wants to know of a storage: a filesystem of Arrow, and the path in it."""
    if is_local(path):
        return LocalFileSystem(), str(path)
    return PyFileSystem(FSSpecHandler(path.fs)), path.path
