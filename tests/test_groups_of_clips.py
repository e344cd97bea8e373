"""Groups of clips, from a data set's own statement to every file that a suite writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from harness_helpers import tiny_suite, use_loudness, write_clips

from benchmarks.compare.export import export
from benchmarks.compare.systems import compare
from benchmarks.datasets import Clip, DataNotFoundError, create_dataset, dataset_digest
from benchmarks.datasets.groups import describe, groups_of, spread
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import Suite
from benchmarks.tables import figure2
from benchmarks.tables.paper import build_table2
from benchmarks.tables.replicates import read_replicates
from benchmarks.tables.scores import write_scores
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import read_number


def clips_of(*groups: str) -> list[Clip]:
    """Clips `c0`, `c1`, ... of these groups (empty: none)."""
    return [
        Clip(f"c{i}", "d", f"{i}", {}, "s", lambda: (np.zeros((1, 9)), 8000), group=group)
        for i, group in enumerate(groups)
    ]


def write_groups(folder: Path, count: int, of: int, header: str = "file,group") -> None:
    """`clips.csv`: so many clips in so many groups, in turn."""
    lines = [header, *(f"clip{i}.wav,track{i % of}" for i in range(count))]
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")


def test_a_clip_without_a_group_is_its_own() -> None:
    alone, grouped = clips_of("", "track")
    assert (alone.cluster, grouped.cluster) == ("c0", "track")
    assert groups_of([alone, grouped]) == {"c1": "track"}


def test_clips_are_counted_with_their_groups_and_artists() -> None:
    clips = clips_of("a", "a", "b", "")
    assert describe(clips, "track") == "4 clips of 3 tracks"
    assert describe(clips[:2], "track") == "2 clips of 1 track"
    assert describe(clips[2:], "track") == "2 clips"
    by_one = [Clip(**{**vars(clip), "labels": {"artist": "one"}}) for clip in clips]
    assert describe(by_one, "track") == "4 clips of 3 tracks by 1 artist"
    assert describe(by_one[:1], "track") == "1 clip"


@pytest.mark.parametrize(
    ("n", "chosen"),
    [(1, "c0"), (3, "c0 c3 c4"), (4, "c0 c1 c3 c4"), (5, "c0 c1 c3 c4 c5"), (6, "c0 c1 c2 c3 c4 c5"), (9, None)],
)
def test_few_clips_are_spread_over_groups(n: int, chosen: str | None) -> None:
    clips = clips_of("a", "a", "a", "", "b", "b")
    found = " ".join(clip.id for clip in spread(clips, n))
    assert found == (chosen or "c0 c1 c2 c3 c4 c5")


def test_a_folder_states_groups_in_a_table(tmp_path: Path) -> None:
    write_clips(tmp_path, 3)
    before = create_dataset("folder", path=tmp_path).clips()
    write_groups(tmp_path, 2, of=1)
    after = create_dataset("folder", path=tmp_path).clips()
    assert [clip.cluster for clip in after] == ["track0", "track0", "clip2.wav"]
    # A new grouping is no new audio.
    assert dataset_digest(after) == dataset_digest(before)
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text("\ufefffile,other,group\nclip1.wav,x,mine\nclip2.wav,x,\n")
    explicit = create_dataset("folder", path=tmp_path, table="elsewhere.csv").clips()
    assert groups_of(explicit) == {"clip1.wav": "mine"}


def test_a_table_that_cannot_be_used_is_refused_and_a_stray_name_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clips(tmp_path, 1)
    with pytest.raises(DataNotFoundError, match="no such table"):
        create_dataset("folder", path=tmp_path, table="groups.csv")
    write_groups(tmp_path, 1, of=1, header="clip,group")
    with pytest.raises(ValueError, match="no column 'file'"):
        create_dataset("folder", path=tmp_path, table="clips.csv")
    assert create_dataset("folder", path=tmp_path).clips()[0].group == ""  # another program's clips.csv
    write_groups(tmp_path, 2, of=1)
    create_dataset("folder", path=tmp_path).clips()
    assert "no such file, but a group: clip1.wav (1 such)" in capsys.readouterr().err


def test_synthetic_sets_state_groups() -> None:
    assert groups_of(create_dataset("synthetic", size=2).clips()) == {}
    notes = create_dataset("synthetic-notes", dynamics_per_pitch=3).clips("fold0")[:3]
    assert len({clip.cluster for clip in notes}) == 1


# -- from the table of a folder to the tables of a suite

RESULTS = Path(__file__).resolve().parent.parent / "results"
METRICS = ("si_sdr", "fad:vggish", "kad:vggish")


def suite_of(clips: Path) -> Suite:
    """Three systems on a folder whose groups are tracks, and a figure of two of its clips."""
    return tiny_suite(
        clips,
        data={"options": {"path": str(clips), "group_name": "track"}},
        table2={"metrics": list(METRICS)},
        figure2={"systems": ["identity", "noise-20db"], "metrics": ["si_sdr"], "steps": [1], "clips": 2},
    )


def built(clips: Path, store: Store) -> tuple[TableResult, RunReport]:
    return build_table2(suite_of(clips), store, SerialExecutor(), RunOptions(quiet=True))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight clips of four tracks."""
    use_loudness(monkeypatch)
    write_clips(tmp_path / "clips", 8)
    write_groups(tmp_path / "clips", 8, of=4)
    return tmp_path / "clips"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all tests: scores and embeddings of the same clips are there whatever their groups are."""
    return Store(tmp_path_factory.mktemp("store"))


def test_groups_travel_to_every_file_and_a_new_grouping_measures_no_audio(
    clips: Path, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    grouped, _ = built(clips, store)
    # The caption and the notes name them, and the table's files hold them.
    assert grouped.title == "Table 2. Reconstruction quality (tiny, 8 clips of 4 tracks)"
    assert "bootstrap-t over tracks for means, jackknife over tracks for distances" in grouped.notes[0]
    grouped.write(folder)
    record = json.loads((folder / "table2.json").read_text())
    assert record["groups"] == {f"clip{i}.wav": f"track{i % 4}" for i in range(8)}
    cells = read_replicates(folder, "table2")["fad:vggish"]
    assert cells["opus-16k"]["groups"] == [[f"clip{i}.wav", f"clip{i + 4}.wav"] for i in range(4)]
    assert len(cells["opus-16k"]["replicates"]) == 4
    lines = (write_scores(folder) or folder).read_text().splitlines()
    assert lines[0] == "table,clip,group,system,metric,value,reason"
    assert lines[1].startswith("table2,clip0.wav,track0,identity,si_sdr,")
    # Without groups: other intervals around the same values, from the same scores and embeddings.
    (clips / "clips.csv").unlink()
    alone, report = built(clips, store)
    assert report.computed == len(METRICS) * (3 + 1)  # cells and comparisons
    assert alone.groups == {}
    for metric in METRICS:
        before, after = grouped.rows[2].cells[metric], alone.rows[2].cells[metric]
        assert before.value == after.value
        assert (before.low, before.high) != (after.low, after.high)
        assert before.details["n_groups"] == 4
        assert "n_groups" not in after.details


def test_every_point_is_in_its_interval_and_identity_is_certain(clips: Path, store: Store) -> None:
    table, _ = built(clips, store)
    for row in table.rows:
        for metric in METRICS:
            cell = row.cells[metric]
            assert None not in (cell.low, cell.value, cell.high)
            assert cell.low <= cell.value <= cell.high  # type: ignore[operator]
    identity = table.rows[0].cells["fad:vggish"]
    assert (identity.value, identity.low, identity.high) == (0.0, 0.0, 0.0)


def test_one_group_allows_no_interval_and_no_difference(clips: Path, store: Store) -> None:
    write_groups(clips, 8, of=1)
    table, _ = built(clips, store)
    assert "8 clips of 1 track" in table.title
    for row in table.rows:
        assert all(row.cells[metric].value is not None for metric in METRICS)
        assert [(row.cells[metric].low, row.cells[metric].high) for metric in METRICS] == [(None, None)] * 3
    assert not any(record.get("significant") for record in table.comparisons)
    assert "[" not in next(line for line in table.to_markdown().splitlines() if line.startswith("| opus-16k"))


def test_a_comparison_resamples_groups_and_an_export_keeps_them(clips: Path, store: Store, tmp_path: Path) -> None:
    planner = Planner(suite_of(clips), RunOptions(quiet=True))
    found = compare(planner, store, SerialExecutor(), ["opus-16k"], baselines=["noise-20db"])
    assert "8 clips of 4 tracks" in found.table.title
    assert "(max-T over tracks)" in found.to_markdown()
    for metric in METRICS:
        (record,) = found.against["opus-16k", metric]
        assert record.n_groups == 4
        assert record.low <= record.difference <= record.high
    export(planner, store, tmp_path / "exported")
    again = create_dataset("folder", path=tmp_path / "exported").clips()
    assert groups_of(again) == planner.groups


def test_a_figure_of_few_clips_takes_them_from_different_groups(clips: Path, store: Store) -> None:
    (clips / "clips.csv").write_text("file,group\n" + "".join(f"clip{i}.wav,track{i // 4}\n" for i in range(8)))
    found, _ = figure2.build(suite_of(clips), store, SerialExecutor(), RunOptions(quiet=True))
    assert "(tiny, 2 clips, the first of each of 2 tracks)" in found.title
    for points in found.curves["noise-20db"].values():
        for point in points:
            assert point["low"] <= point["value"] <= point["high"]
            assert not math.isnan(point["low"])


def table_id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/table?.json")), ids=table_id)
def test_no_point_of_a_committed_table_is_outside_its_interval(path: Path) -> None:
    cells = {
        (row["name"], key): [read_number(cell[name]) for name in ("low", "value", "high")]
        for row in json.loads(path.read_text())["rows"]
        for key, cell in row["cells"].items()
    }
    bounded = {name: numbers for name, numbers in cells.items() if None not in numbers}
    assert bounded
    assert [name for name, (low, value, high) in bounded.items() if not low <= value <= high] == []  # type: ignore[operator]
