"""MusicCaps as a data set: the published list, the manifest, and clips that were fetched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness_helpers import tiny_suite
from musiccaps_helpers import OK, VIDEOS, Box

from benchmarks.datasets import ClipError, DataNotFoundError, create_dataset
from benchmarks.datasets.musiccaps import LIST, MANIFEST, MusicCaps, manifest_digest, read_list, read_manifest
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.tables.paper import build_table2

pytest_plugins = ["fetch_fixtures"]


def test_the_data_set_lists_what_is_there_and_says_how_much_that_is(quick: Box) -> None:
    quick.get()
    data = create_dataset("musiccaps", root=quick.root, complete=False)
    found = data.clips()
    assert [clip.id for clip in found] == [ytid for ytid in VIDEOS if ytid in OK]
    assert {clip.labels["sample_rate"] for clip in found} == {44100, 48000}
    assert found[0].labels["caption"] == "Caption, 0"
    audio, rate = found[1].load()
    assert (audio.shape, rate) == ((2, 441_000), 44100)
    assert {clip.id for clip in data.clips("eval")} | {clip.id for clip in data.clips("train")} == OK
    digest = manifest_digest(read_manifest(quick.folder))
    assert (
        data.coverage()
        == (  # type: ignore[attr-defined]
            "MusicCaps: 4 of 11 clips (2 gone, 1 private, 1 blocked, 1 age-restricted, 2 wrong length); "
            f"manifest {digest[:16]}"
        )
    )
    path = quick.folder / "audio" / f"{found[0].id}.wav"
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    with pytest.raises(ClipError, match="sha256 is"):
        found[0].load()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=found[0].id):
        create_dataset("musiccaps", root=quick.root, complete=False).clips()[0].load()


def test_tables_say_how_many_clips_they_stand_on(quick: Box, tmp_path: Path) -> None:
    quick.get()
    suite = tiny_suite(
        tmp_path,
        data={"dataset": "musiccaps", "options": {"root": str(quick.root), "complete": False}},
        table2={"systems": ["identity"], "metrics": ["si_sdr"]},
    )
    table, _ = build_table2(suite, Store(tmp_path / "store"), SerialExecutor(), RunOptions(quiet=True))
    coverage = MusicCaps(quick.root, complete=False).coverage()
    assert coverage.startswith("MusicCaps: 4 of 11 clips (")
    assert coverage in table.notes
    assert table.provenance["coverage"] == coverage
    assert table.provenance["n_clips"] == 4
    assert coverage in [line.rstrip() for line in table.to_markdown().splitlines()]


def test_without_clips_the_data_set_says_what_gets_them(box: Box, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="m2l-bench fetch musiccaps"):
        create_dataset("musiccaps", root=box.root, complete=False).clips()
    with pytest.raises(DataNotFoundError, match="m2l-bench fetch musiccaps"):
        create_dataset("musiccaps", root=tmp_path).clips()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("-0Gj8-vB1q4", "short"), "'short' is not an id"),
        (lambda text: text.replace("-0Gj8-vB1q4", "../../evil1"), "is not an id"),
        (lambda text: text.replace(",30,40,", ",30,41,", 1), r"line 2: the clip goes from 30\.0 to 41\.0"),
        (lambda text: text.replace(",30,40,", ",x,40,", 1), "line 2: times 'x' to '40'"),
        (lambda text: text.replace("0fqtA_ZBn_8", "-0Gj8-vB1q4"), "'-0Gj8-vB1q4' is listed twice"),
        (lambda text: text.replace("caption", "c", 1), "no column 'caption'"),
    ],
)
def test_a_damaged_list_is_refused_with_its_line(box: Box, change: object, message: str) -> None:
    path = box.folder / LIST
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        read_list(path, complete=False)


def test_an_excerpt_is_not_the_published_list(box: Box) -> None:
    with pytest.raises(ValueError, match="11 clips, published are 5521"):
        read_list(box.folder / LIST)


def test_a_foreign_manifest_is_refused(box: Box) -> None:
    (box.folder / MANIFEST).write_text("ytid,status\n-0Gj8-vB1q4,ok\n")
    assert "not a row of this manifest" in str(box.get()["failed"])


@pytest.mark.shared
def test_the_published_list_has_its_counts() -> None:
    root = os.environ.get("M2L_DATA")
    path = Path(root or ".") / "metadata" / LIST
    if not path.is_file():
        pytest.skip("M2L_DATA has no metadata/musiccaps-public.csv")
    segments = read_list(path)
    assert len(segments) == 5521
    assert sum(s.evaluation for s in segments) == 2858
    assert sum(s.balanced for s in segments) == 1000
