"""Copies that exist already: adopted, recognized or refused; and what publishers' own scripts download."""

from __future__ import annotations

from pathlib import Path

import pytest
from fetch_helpers import PINNED, data_of, get, get_all, is_complete, nothing_wrong_is_there, served
from http_helpers import Server
from paper_data import Mini, miniature

from benchmarks.datasets.records import HIDDEN, read_records

pytest_plugins = ["fetch_fixtures"]


# ---- existing copies, parts --------------------------------------------------------------------------


def test_archives_of_an_existing_copy_are_used_where_they_are(each: Mini, mirror: Server, tmp_path: Path) -> None:
    mini = each
    copy = tmp_path / "copy" / "downloads"
    copy.mkdir(parents=True)
    names = dict(mini.by_hand)
    for path in mini.served:
        name = path.removesuffix("/content").rpartition("/")[2]
        names[name] = mini.served[path]
    for name, data in names.items():
        (copy / name).write_bytes(data)
    assert get(mini, tmp_path, "--from", str(tmp_path / "copy")) == 0
    is_complete(mini, tmp_path)
    assert not [path for method, path, _ in mirror.requests if method == "GET"]
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == names


def test_unpacked_files_of_an_existing_copy_are_linked_under_their_published_names(
    each: Mini, mirror: Server, tmp_path: Path
) -> None:
    mini = each
    copy = tmp_path / "copy" / "some folder"
    for path, data in mini.files.items():
        target = copy / path.replace("audio/", "").replace("mp3/", "MP3s/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    assert get(mini, tmp_path / "data", "--from", str(tmp_path / "copy")) == 0
    is_complete(mini, tmp_path / "data")
    assert not [path for method, path, _ in mirror.requests if method == "GET"]


@pytest.mark.parametrize("name", PINNED)
def test_a_copy_with_another_file_is_not_adopted_but_fetched(
    name: str, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mini = miniature(name, monkeypatch)
    mirror.files.update(mini.served)
    for path, data in mini.files.items():
        target = tmp_path / "copy" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data + b"changed" if path.startswith("audio/") else data)
    code = get(mini, tmp_path / "data", "--from", str(tmp_path / "copy"))
    assert "not adopted" in capsys.readouterr().err
    nothing_wrong_is_there(mini, tmp_path / "data")
    assert code == (3 if mini.by_hand else 0)
    if not mini.by_hand:
        is_complete(mini, tmp_path / "data")


def test_data_put_in_place_by_hand_is_recognized(each: Mini, mirror: Server, tmp_path: Path) -> None:
    mini = each
    for path, data in mini.files.items():
        target = tmp_path / mini.corpus.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    if mini.corpus.name == "dns4":  # publishes no list, so that nothing tells whether it is complete
        assert get(mini, tmp_path) == 3
        return
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)
    assert mirror.requests == []


def test_a_part_of_the_archives_can_be_chosen(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = served("dns4", mirror, monkeypatch)
    assert get_all(mini, tmp_path, "--only", "VocalSet") == 0
    assert set(data_of(tmp_path / "dns4")) == {"clean_fullband/VocalSet_48kHz_mono/female1/f1_scales.wav"}
    assert get_all(mini, tmp_path, "--only", "read_speech_00[01]*") == 0
    assert data_of(tmp_path / "dns4") == mini.files
    assert get(mini, tmp_path, "--only", "klingon") == 3
    mini = served("beatport", mirror, monkeypatch)
    folder = tmp_path / "beatport_key"
    assert get(mini, tmp_path, "--only", "keys", "--keep-archives") == 0
    assert {path.partition("/")[0] for path in read_records(folder)} == {"keys"}
    assert [path.name for path in (folder / HIDDEN / "archives").iterdir()] == ["keys.zip"]
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)


# ---- what publishers' own scripts download -----------------------------------------------------------


def test_the_publishers_own_commands_are_shown_and_nothing_large_is_requested(
    by_hand: Mini, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = by_hand.corpus.name
    for options in (["--dry-run"], []):
        assert get(by_hand, tmp_path, *options) == (0 if options else 3)
        err = capsys.readouterr().err
        assert "mtg-jamendo-dataset/scripts/download/download.py" in err or "download-dns-challenge-4.sh" in err
        assert f"m2l-bench fetch {name} --from {name}-download --data {tmp_path}" in err
    assert {path.rpartition("/")[2] for _, path, _ in mirror.requests} == {item.path for item in by_hand.corpus.items}
    assert read_records(tmp_path / by_hand.corpus.folder) == {}


def test_a_damaged_archive_of_a_copy_is_refused_and_left_alone(
    by_hand: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = by_hand.download_by_hand(tmp_path / "copy")
    for name, data in by_hand.by_hand.items():
        broken = bytearray(data)
        broken[len(broken) // 2] ^= 0xFF
        (copy / name).write_bytes(bytes(broken))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert get(by_hand, tmp_path, "--from", str(copy)) == 3
    err = capsys.readouterr().err
    assert "not the published file" in err if by_hand.corpus.name in PINNED else "damaged" in err
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    nothing_wrong_is_there(by_hand, tmp_path)
    assert read_records(tmp_path / by_hand.corpus.folder) == {}
    assert get_all(by_hand, tmp_path) == 0
    is_complete(by_hand, tmp_path)


def test_an_incomplete_copy_is_adopted_as_far_as_it_goes(
    by_hand: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = by_hand.download_by_hand(tmp_path / "copy")
    lost = sorted(copy.iterdir())[0]
    lost.rename(tmp_path / "elsewhere")
    assert get(by_hand, tmp_path, "--from", str(copy)) == 3
    out, err = capsys.readouterr()
    assert "1 archives are missing here and in the copy" in err
    assert f"{len(by_hand.by_hand) - 1} archives fetched, 0 already present, 1 failed" in out
    assert read_records(tmp_path / by_hand.corpus.folder)
    nothing_wrong_is_there(by_hand, tmp_path)
    (tmp_path / "elsewhere").rename(lost)
    assert get(by_hand, tmp_path, "--from", str(copy)) == 0
    is_complete(by_hand, tmp_path)
