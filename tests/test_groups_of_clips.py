"""Groups of clips, from a data set's own statement to every file that a suite writes."""

from __future__ import annotations

import numpy as np
import pytest
from harness_helpers import write_clips

from benchmarks.datasets import Clip, DataNotFoundError, create_dataset, dataset_digest
from benchmarks.datasets.groups import describe, groups_of, spread


def clips_of(*groups: str) -> list[Clip]:
    """Clips `c0`, `c1`, ... of these groups (empty: none)."""
    return [
        Clip(f"c{i}", "d", f"{i}", {}, "s", lambda: (np.zeros((1, 9)), 8000), group=group)
        for i, group in enumerate(groups)
    ]


def write_groups(folder, count: int, of: int, header: str = "file,group") -> None:
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


def test_a_folder_states_groups_in_a_table(tmp_path) -> None:
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


def test_a_table_that_cannot_be_used_is_refused_and_a_stray_name_is_said(tmp_path, capsys) -> None:
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
