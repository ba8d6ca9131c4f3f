from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import datasets  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from colllm_ray.config import DataConfig, DatasetSource, Source
from colllm_ray.data.records import Record, Unreadable
from colllm_ray.data.sources import fingerprint, read_records
from colllm_ray.errors import ColllmError

ROWS = [{"question": f"{i}, où?", "answer": str(i)} for i in range(600)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
COLUMNS = {"question", "answer"}


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content))


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "rows.jsonl": bytes,
    "rows.json": bytes,
    "rows.jsonl.gz": gzip.compress,
    "rows.json.gz": gzip.compress,
    "rows.of.jsonl.zst": zstd,
    "rows.jsonl.bz2": bz2.compress,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(source: Source) -> list[Record | Unreadable]:
    return list(read_records(source, COLUMNS, set()))


def write_parquet(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    return path


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(LINES)
    (folder / "test.jsonl").write_text(json.dumps(ROWS[7]) + "\n")
    return folder


@pytest.mark.parametrize("name", COMPRESSED)
def test_lines_are_read_compressed_or_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(COMPRESSED[name](LINES))
    assert read(str(path)) == [Record(f"{path}:{i + 1}", row) for i, row in enumerate(ROWS)]


def test_several_gzip_files_in_one_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINES) * 2)
    assert len(read(str(path))) == 1200


def test_a_byte_order_mark_and_foreign_line_ends_are_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"))
    assert [row.values for row in read(str(path)) if isinstance(row, Record)] == ROWS


def test_parquet_is_read_by_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", [{**row, "other": 1.5} for row in ROWS])
    assert read(str(path)) == [Record(f"{path}: row {i}", row) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize("name", ["rows.jsonl.zst", "rows.parquet"])
@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_uri_is_read_as_a_path(scheme: str, name: str, tmp_path: Path) -> None:
    uri = f"{scheme}://{tmp_path}/{name}"
    is_parquet = name.endswith("parquet")
    content = write_parquet(tmp_path / "here.parquet", ROWS).read_bytes() if is_parquet else zstd(LINES)
    UPath(uri).parent.mkdir(parents=True, exist_ok=True)
    UPath(uri).write_bytes(content)
    rows = read(uri)
    assert [row.values for row in rows if isinstance(row, Record)] == ROWS
    assert rows[17].place == (f"{uri}: row 17" if name.endswith("parquet") else f"{uri}:18")


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", ROWS), ("train[:95%]", ROWS[:570]), ("train[590:]", ROWS[590:]), ("test+train[:1]", [ROWS[7], ROWS[0]])],
)
def test_a_folder_is_read_as_a_data_set(split: str, expected: list[dict[str, str]], tmp_path: Path) -> None:
    source = DatasetSource(dataset=str(write_folder(tmp_path / "set")), split=split)
    title = f"{source.dataset} ({split})"
    assert read(source) == [Record(f"{title}: row {i}", row) for i, row in enumerate(expected)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, r"none\.jsonl: cannot be read: No such file"),
        ("rows.csv", LINES, r"rows\.csv: is none of the files that can be read: \.jsonl and \.json, .*\.parquet"),
        ("rows.parquet.gz", LINES, r"rows\.parquet\.gz: is none of the files"),
        ("rows", LINES, r"rows: is none of the files"),
        ("empty.jsonl", b"\n \n", r"empty\.jsonl: holds no rows"),
        ("latin.jsonl", LINES + "où".encode("latin-1"), r"latin\.jsonl: is no UTF-8 text: .* of line 601"),
        ("cut.jsonl.gz", gzip.compress(LINES)[:-100], r"cut\.jsonl\.gz: cannot be read: Truncated"),
        ("plain.jsonl.gz", LINES, r"plain\.jsonl\.gz: cannot be read: .*incorrect header"),
        ("text.parquet", LINES, r"text\.parquet: cannot be read: .*[Pp]arquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ColllmError, match=message):
        read(str(tmp_path / name))


@pytest.mark.parametrize("uri", ["memory://none/rows.jsonl", "nonsense://bucket/rows.jsonl"])
def test_a_uri_that_cannot_be_read_is_named(uri: str) -> None:
    with pytest.raises(ColllmError, match=rf"{uri}: cannot be read: "):
        read(uri)


def test_a_missing_column_of_a_table_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", [{"question": "q", "reply": "r"}])
    with pytest.raises(ColllmError, match=r"rows\.parquet: has no column 'answer'; it has: 'question', 'reply'"):
        read(str(path))
    folder = write_folder(tmp_path / "set")
    with pytest.raises(ColllmError, match=r"set \(test\): has no column 'reply'; it has: 'question', 'answer'"):
        list(read_records(DatasetSource(dataset=str(folder), split="test"), ["reply"], []))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, r"set \(dev\): .*split.*dev.*train.*test"),
        ({"split": "train[:x]"}, r"set \(train\[:x\]\): cannot be loaded: .*train\[:x\]"),
        ({"name": "main"}, r"set \(main, train\): cannot be loaded: .*'main' not found. Available: \['default'\]"),
        ({"dataset": "/nowhere/at/all"}, r"/nowhere/at/all \(train\): cannot be loaded: "),
    ],
)
def test_a_data_set_that_cannot_be_loaded_is_named(change: dict[str, str], message: str, tmp_path: Path) -> None:
    source = DatasetSource(**{"dataset": str(write_folder(tmp_path / "set")), **change})
    with pytest.raises(ColllmError, match=message):
        read(source)


def test_a_broken_file_of_a_data_set_is_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    (folder / "train.jsonl").write_text("{broken")
    with pytest.raises(ColllmError, match=r"set \(train\): cannot be loaded: .*JSON parse error"):
        read(DatasetSource(dataset=str(folder)))


def config(**changes: object) -> DataConfig:
    return DataConfig.model_validate({"train": "t", "validation": "v", **changes})


def test_a_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl").write_bytes(LINES)
    (tmp_path / "c.jsonl").write_bytes(LINES[:-1])
    of_a, of_b, of_c = (fingerprint({"train": str(tmp_path / f"{name}.jsonl")}, config()) for name in "abc")
    assert of_a == of_b != of_c
    assert len(of_a) == 16


@pytest.mark.parametrize(
    "change", [{"columns": {"messages": "chat"}}, {"columns": {"domain": "topic"}}, {"loss_on": "last"}]
)
def test_a_fingerprint_knows_how_rows_are_read(change: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    sources: dict[str, Source] = {"train": str(tmp_path / "a.jsonl")}
    assert fingerprint(sources, config(**change)) != fingerprint(sources, config())


def test_a_fingerprint_does_not_mind_what_examples_do_not_depend_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    path = str(tmp_path / "a.jsonl")
    assert fingerprint({"train": path}, config(max_failed=3)) == fingerprint({"train": path}, config())
    assert fingerprint({"train": path}, config()) != fingerprint({"test": path}, config())
    one: dict[str, str] = {"user": "a", "assistant": "b"}
    other = dict(reversed(one.items()))
    assert fingerprint({"train": path}, config(columns=one)) == fingerprint({"train": path}, config(columns=other))


def test_a_fingerprint_of_a_data_set_is_of_the_split_that_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    copy = write_folder(tmp_path / "copy")

    def of(where: Path, split: str) -> str:
        return fingerprint({"train": DatasetSource(dataset=str(where), split=split)}, config())

    before = of(folder, "train")
    assert before == of(copy, "train")
    assert (
        len({before, of(folder, "test"), of(folder, "train[:50%]"), of(folder, "train+test"), of(folder, "all")}) == 5
    )
    (folder / "test.jsonl").write_bytes(LINES)
    assert of(folder, "train") == before
    (folder / "train.jsonl").write_bytes(LINES * 2)
    assert of(folder, "train") != before


def test_a_fingerprint_of_nothing_names_it(tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"none\.jsonl: cannot be read: No such file"):
        fingerprint({"train": str(tmp_path / "none.jsonl")}, config())
    folder = write_folder(tmp_path / "set")
    with pytest.raises(ColllmError, match=r"set \(dev\): there is no split 'dev'; there are: train, test"):
        fingerprint({"train": DatasetSource(dataset=str(folder), split="dev")}, config())
