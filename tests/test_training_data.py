"""Training data: what is opened, what is left out and why, and crops that depend on (seed, step, item) alone."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from training_helpers import music_and_speech, noise_file, tiny

from m2l import create_config
from m2l.consistency import sample_t
from m2l.io.blocks import read_audio, write_audio
from m2l.training import TrainingSettings
from m2l.training.data import Corpus, Crops, DataError, StepOrder, Stretch, collate, crop_samples, open_corpus, times_of
from m2l.training.readers import reading

CONFIG = create_config("tiny")
CROP = crop_samples(tiny(()), CONFIG)


def crops_of(*specs: str, **changes: Any) -> Crops:
    settings = tiny(specs, **changes)
    return Crops([open_corpus(spec, CROP) for spec in specs], settings, CONFIG)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def names(spec: str, **options: Any) -> list[str]:
    return [Path(part.path).name for part in open_corpus(spec, CROP, **options).stretches]


# --- opening ------------------------------------------------------------------------------------------------


def test_a_crop_is_the_papers() -> None:
    assert crop_samples(TrainingSettings(), create_config("paper")) == 34_304


def test_a_folder_is_all_audio_below_it(tmp_path: Path) -> None:
    for name in ("b.wav", "sub/A.FLAC", "sub/deep/c.ogg", ".hidden.wav"):
        noise_file(tmp_path / name, seconds=0.5)
    (tmp_path / "notes.txt").write_text("no audio")
    assert names(str(tmp_path)) == ["b.wav", "A.FLAC", "c.ogg"]
    corpus = open_corpus(str(tmp_path), CROP)
    assert corpus.weight == 1.0
    assert corpus.seconds == pytest.approx(1.5, rel=1e-3)


def test_a_file_and_weights(tmp_path: Path) -> None:
    path = noise_file(tmp_path / "a=b" / "c.wav", seconds=0.5)
    assert names(str(path)) == ["c.wav"]
    assert open_corpus(f"{path}=2.5", CROP).weight == 2.5
    assert open_corpus(str(tmp_path / "a=b"), CROP).weight == 1.0
    for weight in ("0", "-1", "nan", "inf"):
        with pytest.raises(DataError, match=f"weight of .*c.wav' must be a positive number, not {weight}"):
            open_corpus(f"{path}={weight}", CROP)
    with pytest.raises(DataError, match=r"no training data at .*nowhere=x'"):
        open_corpus(str(tmp_path / "nowhere=x"), CROP)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    noise_file(tmp_path / "slow.wav", rate=22_050)
    noise_file(tmp_path / "short.wav", seconds=(CROP - 1) / 44_100)
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"no usable audio.*: 1 at 22050 Hz .*, 1 shorter than a crop, 1 unread"):
        open_corpus(str(tmp_path), CROP)
    noise_file(tmp_path / "just.wav", seconds=CROP / 44_100)
    assert names(str(tmp_path)) == ["just.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no usable audio in .*empty': it holds no audio files"):
        open_corpus(str(tmp_path / "empty"), CROP)


@pytest.mark.parametrize("write", [write_csv, write_lines])
def test_manifests(write: Any, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        noise_file(tmp_path / "set" / "audio" / name)
    rows = [
        {"path": "audio/a.wav", "split": "train"},  # relative to the manifest's folder
        {"path": "set/audio/b.wav", "split": "train"},  # and to the one above
        {"path": "audio/c.wav", "split": "test"},
    ]
    manifest = write(tmp_path / "set" / f"list.{'csv' if write is write_csv else 'jsonl'}", rows)
    assert names(manifest) == ["a.wav", "b.wav"]
    assert names(manifest, split="test") == ["c.wav"]
    with pytest.raises(DataError, match="no rows of split 'dev'; its splits: test, train"):
        open_corpus(manifest, CROP, "dev")
    unsplit = write(tmp_path / "set" / Path(manifest).name, [{"path": row["path"]} for row in rows])
    assert names(unsplit, split="dev") == ["a.wav", "b.wav", "c.wav"]
    write(tmp_path / "set" / Path(manifest).name, [{"path": "audio/gone.wav"}])
    with pytest.raises(DataError, match=r"names a file that is not there: .*audio/gone.wav'"):
        open_corpus(manifest, CROP)


def test_parts_of_files(tmp_path: Path) -> None:
    noise_file(tmp_path / "a.wav", seconds=2.0)
    whole, half, second = 2 * 44_100, 22_050, 44_100

    def parts(**row: Any) -> list[tuple[int, int]]:
        lines = write_lines(tmp_path / "list.jsonl", [{"path": "a.wav", **row}])
        rows = write_csv(tmp_path / "list.csv", [{"path": "a.wav", **row}])
        found = [[(p.start, p.stop) for p in open_corpus(spec, CROP).stretches] for spec in (lines, rows)]
        assert found[0] == found[1]
        return found[0]

    assert parts(start=0.5, seconds=1) == [(half, half + second)]
    assert parts(start=0, seconds=0.5) == [(0, half)]
    assert parts(start=1.5) == [(whole - half, whole)]
    assert parts(start=1, seconds=9) == [(second, whole)]
    assert parts(seconds=1.3) == [(0, whole)]  # the file's length, which such lists often hold
    with pytest.raises(DataError, match="1 shorter than a crop"):
        parts(start=3)
    for bad in (-1, "soon", "nan"):
        with pytest.raises(DataError, match=f"start of .*a.wav' must be seconds, not '?{bad}"):
            parts(start=bad)
    # Crops come from the part alone.
    crops = crops_of(write_lines(tmp_path / "list.jsonl", [{"path": "a.wav", "start": 0.5, "seconds": 0.2}]))
    starts = [float(crops[item]["origin"].split("@")[1].split("s")[0]) for item in range(30)]
    assert min(starts) >= 0.5
    assert max(starts) <= 0.7 - CROP / 44_100 + 1e-3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"file,split\na.wav,train\n", "it needs a 'path' in every row"),
        ("list.csv", b"path\n", "it has no rows"),
        ("list.csv", b"split,path\ntrain\n", "it needs a 'path' in every row"),
        ("list.jsonl", b'{"path": 3}\n', "it needs a 'path' in every row"),
        ("list.jsonl", b"[1, 2]\n", "it needs a 'path' in every row"),
        ("list.jsonl", b'{"path": "a.wav"\n', "is not a manifest"),
        ("song.m4a", bytes(range(256)), "song.m4a' is not a manifest"),
    ],
)
def test_what_is_no_manifest_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_corpus(str(tmp_path / name), CROP)


# --- crops --------------------------------------------------------------------------------------------------


def test_crops_are_what_the_files_hold_at_their_own_rates(tmp_path: Path) -> None:
    """The origin says where a crop comes from: reading there gives the same samples, never resampled."""
    data = crops_of(*music_and_speech(tmp_path))
    rates = {}
    for item in range(24):
        crop = data[item]
        path, _, rest = crop["origin"].rpartition(" @")
        seconds, channel = rest.split("s channel ")
        audio, rate = read_audio(path)
        start = round(float(seconds) * rate)
        rates[rate] = rates.get(rate, 0) + 1
        # Seconds are rounded to 1 ms: look for the crop near by.
        row = audio[int(channel)]
        near = [s for s in range(max(0, start - 25), start + 26) if row[s] == crop["waveform"][0]]
        assert any(np.array_equal(row[s : s + CROP], crop["waveform"].numpy()) for s in near)
        assert crop["noise"].shape == (2, 1024, 8)
    assert set(rates) == {44_100, 48_000}


def test_a_crop_depends_on_seed_step_and_item_alone(tmp_path: Path) -> None:
    specs = music_and_speech(tmp_path)
    data = crops_of(*specs, batch_size=4)
    forward = [data[item] for item in range(8)]
    again = crops_of(*specs, batch_size=4)
    for item in reversed(range(8)):
        assert again[item]["origin"] == forward[item]["origin"]
        assert torch.equal(again[item]["waveform"], forward[item]["waveform"])
        assert torch.equal(again[item]["noise"], forward[item]["noise"])
    assert len({crop["origin"] for crop in forward}) == 8
    assert len({float(crop["noise"][0, 0, 0]) for crop in forward}) == 8
    other = crops_of(*specs, batch_size=4, seed=43)
    assert all(other[item]["origin"] != forward[item]["origin"] for item in range(8))
    assert float(forward[0]["noise"].std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int, tmp_path: Path) -> None:
    data = crops_of(*music_and_speech(tmp_path), steps=4)
    order = StepOrder(data.settings, 1)
    with reading(data, order, workers, lambda: False) as found:
        batches = list(found)
    assert len(batches) == 3
    for items, batch in zip(order, batches, strict=True):
        expected = collate([data[item] for item in items])
        assert batch["origin"] == expected["origin"]
        assert torch.equal(batch["waveform"], expected["waveform"])
        assert torch.equal(batch["noise"], expected["noise"])


def test_times_depend_on_seed_and_step(tmp_path: Path) -> None:
    settings = tiny(("x",), batch_size=8)
    assert torch.equal(times_of(5, settings, CONFIG), times_of(5, settings, CONFIG))
    assert not torch.equal(times_of(5, settings, CONFIG), times_of(6, settings, CONFIG))
    assert not torch.equal(times_of(5, settings, CONFIG), times_of(5, tiny(("x",), batch_size=8, seed=1), CONFIG))
    true = tiny(("x",), batch_size=8, density="lognormal")
    assert not torch.equal(times_of(5, settings, CONFIG), times_of(5, true, CONFIG))
    assert times_of(5, settings, CONFIG).shape == (8,)


@pytest.mark.parametrize(("weights", "share"), [(("", ""), 0.5), (("=3", "=1"), 0.75)])
def test_corpora_are_drawn_by_weight_not_by_size(
    weights: tuple[str, str], share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, files in (("big", 9), ("small", 1)):
        for index in range(files):
            noise_file(tmp_path / name / f"{index}.wav", seconds=0.3)
    data = crops_of(*(f"{tmp_path / name}{weight}" for name, weight in zip(("big", "small"), weights, strict=True)))
    # The draw alone: the same numbers of the same streams, without reading 2000 files.
    loud = np.full((1, CROP), 0.5, np.float32)
    monkeypatch.setattr("m2l.training.data.read_audio", lambda path, start, frames: (loud, 44_100))
    monkeypatch.setattr("m2l.training.data.torch.randn", lambda *shape, generator: None)
    origins = [data[item]["origin"] for item in range(2000)]
    drawn = np.mean(["/big/" in origin for origin in origins])
    assert abs(drawn - share) < 4 * np.sqrt(share * (1 - share) / 2000)
    # Within a corpus every file is as likely as the next.
    counts = [sum(f"/big/{index}.wav" in origin for origin in origins) for index in range(9)]
    assert np.std(counts) < 3 * np.sqrt(np.mean(counts))


def test_silence_is_drawn_again(tmp_path: Path) -> None:
    """Half a file is silent: no crop is, and all start where enough of it is not."""
    rate, half = 44_100, 44_100
    audio = np.zeros((1, 2 * half), np.float32)
    audio[0, half:] = np.random.default_rng(0).uniform(-0.3, 0.3, half)
    (tmp_path / "a").mkdir()
    write_audio(tmp_path / "a" / "half.wav", audio, rate)
    crops = [crops_of(str(tmp_path / "a"))[item]["waveform"] for item in range(40)]
    assert min(float(crop.square().mean().sqrt()) for crop in crops) >= 0.001
    ungated = crops_of(str(tmp_path / "a"), silence_rms=0.0)
    assert any(not bool(ungated[item]["waveform"].any()) for item in range(40))
    write_audio(tmp_path / "a" / "half.wav", 0 * audio, rate)
    with pytest.raises(DataError, match=r"/a': 100 crops in a row were below RMS 0.001"):
        crops_of(str(tmp_path / "a"))[0]


def test_one_of_the_first_two_channels(tmp_path: Path) -> None:
    audio = np.repeat(np.array([[0.1], [0.2], [0.3]], np.float32), 20_000, axis=1)
    write_audio(tmp_path / "three.wav", audio, 48_000)
    data = crops_of(str(tmp_path / "three.wav"))
    levels = [round(float(data[item]["waveform"][0]), 3) for item in range(40)]
    assert set(levels) == {0.1, 0.2}
    assert 8 <= levels.count(0.1) <= 32


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_crop_does_not_decode_the_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = noise_file(tmp_path / f"long.{suffix}", seconds=20.0)
    data = crops_of(str(path))
    frames, plain = [], soundfile.SoundFile.read

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        block = plain(self, *arguments, **options)
        frames.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    starts = []
    for item in range(8):
        frames.clear()
        starts.append(data[item]["origin"])
        assert 0 < sum(frames) <= 2 * 65_536  # of 882,000
    assert len(set(starts)) == 8


def test_crops_begin_anywhere_that_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stretch with 2 samples to spare there are 3 crops, of one as long as a crop only 1; the origin tells."""
    asked: list[tuple[str, int, int]] = []

    def read(path: str, start: int, frames: int) -> tuple[np.ndarray, int]:
        asked.append((path, start, frames))
        return np.full((1, frames), 0.5, np.float32), 44_100

    monkeypatch.setattr("m2l.training.data.read_audio", read)
    for spare, starts in ((2, [441_000, 441_001, 441_002]), (0, [441_000])):
        part = Stretch("a.wav", 44_100, 1, 441_000, 441_000 + CROP + spare)
        crops = Crops([Corpus("x", 1.0, (part,))], tiny(("x",)), CONFIG)
        asked.clear()
        origins = {crops[item]["origin"] for item in range(30)}
        assert sorted({start for _, start, _ in asked}) == starts
        assert {(path, frames) for path, _, frames in asked} == {("a.wav", CROP)}
        assert origins == {"a.wav @10.000s channel 0"}


@pytest.mark.parametrize(
    ("audio", "rate", "what"),
    [
        (np.full((1, CROP), 0.5, np.float32), 44_100, None),
        (np.full((1, CROP), 0.499, np.float32), 44_100, "100 crops in a row were below RMS 0.5"),
        (np.full((1, CROP - 1), 0.9, np.float32), 44_100, "100 crops in a row were below RMS 0.5"),
        (np.full((1, CROP), 0.5, np.float32), 48_000, r"100 of 100 draws .*: no crop at 1\.\d+ s: a.wav has changed"),
        (
            np.zeros((0, CROP), np.float32),
            44_100,
            r"100 of 100 draws in a row could not be read: no crop at 1\.\d+ s: ",
        ),
    ],
)
def test_what_is_no_crop(audio: np.ndarray, rate: int, what: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An RMS of just the least is enough; audio cut short, silent, or of another form than at the start is not."""
    monkeypatch.setattr("m2l.training.data.read_audio", lambda *place: (audio, rate))
    part = Stretch("a.wav", 44_100, 1, 44_100, 44_100 + 2 * CROP)
    crops = Crops([Corpus("x", 1.0, (part,))], tiny(("x",), silence_rms=0.5), CONFIG)
    if what is None:
        assert np.array_equal(crops[0]["waveform"], audio[0])
        assert crops[0]["unreadable"] == []
        return
    with pytest.raises(DataError, match=what):
        crops[0]


def test_a_place_that_cannot_be_read_is_drawn_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def read(path: str, start: int, frames: int) -> tuple[np.ndarray, int]:
        calls.append(start)
        if len(calls) < 3:
            raise OSError("gone")
        return np.full((1, frames), 0.5, np.float32), 48_000

    monkeypatch.setattr("m2l.training.data.read_audio", read)
    part = Stretch("a.wav", 48_000, 1, 0, 480_000)
    crop = Crops([Corpus("x", 1.0, (part,))], tiny(("x",)), CONFIG)[0]
    assert crop["unreadable"] == [("a.wav", f"no crop at {start / 48_000:.3f} s: gone") for start in calls[:2]]
    assert crop["origin"] == f"a.wav @{calls[2] / 48_000:.3f}s channel 0"
    assert collate([crop, crop])["unreadable"] == 2 * crop["unreadable"]


def test_random_streams_are_those_of_seed_step_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times have the stream 0 of their step, crop `index` has stream index + 1: the same in every later version."""
    monkeypatch.setattr("m2l.training.data.read_audio", lambda *p: (np.full((2, CROP), 0.5, np.float32), 44_100))
    settings = tiny(("x",), batch_size=3, seed=9)
    corpora = [
        Corpus(name, weight, (Stretch(name, 44_100, 2, 0, 99_999),) * 4) for name, weight in (("x", 1), ("y", 3))
    ]
    crop = Crops(corpora, settings, CONFIG)[3 * 5 + 1]  # the second of step 5
    random = np.random.Generator(np.random.PCG64([9, 5, 2]))
    name = "x" if random.random() < 0.25 else "y"
    random.integers(4)
    start, channel = random.integers(99_999 - CROP + 1), random.integers(2)
    assert crop["origin"] == f"{name} @{start / 44_100:.3f}s channel {channel}"
    noise = torch.randn((2, 1024, 8), generator=torch.Generator().manual_seed(int(random.integers(2**63))))
    assert torch.equal(crop["noise"], noise)
    seed = int(np.random.Generator(np.random.PCG64([9, 5, 0])).integers(2**63))
    expected = sample_t(3, CONFIG, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(times_of(5, settings, CONFIG), expected)


def test_direct_items_are_those_nearest_to_equal_distances() -> None:
    for share, places in ((0.5, [0, 2, 4]), (0.34, [0, 3]), (0.08, []), (0.09, [0]), (0.7, [0, 1, 3, 4])):
        times = times_of(0, tiny(("x",), batch_size=6, direct_share=share), CONFIG)
        assert (times == 1).nonzero().flatten().tolist() == places


def test_the_order_of_two_processes_by_hand() -> None:
    """Batches of 8, from step 1 of 3 on: each process has 4 of each, in 2 parts."""
    settings = tiny(("x",), batch_size=8, steps=3, gradient_accumulation=2)
    first, second = (StepOrder(settings, 1, rank, 2) for rank in (0, 1))
    assert list(first) == [[8, 9], [10, 11], [16, 17], [18, 19]]
    assert list(second) == [[12, 13], [14, 15], [20, 21], [22, 23]]
    assert len(first) == len(second) == 4
    assert list(StepOrder(tiny(("x",), steps=2), 0)) == [[0, 1], [2, 3]]


def test_a_corpus_as_facts() -> None:
    parts = (Stretch("a.wav", 44_100, 1, 0, 44_100 * 3600), Stretch("a.wav", 48_000, 2, 48_000, 48_000 * 1801))
    corpus = Corpus("music", 2.0, (*parts, Stretch("b.wav", 44_100, 1, 0, 441)), {"short": ["s", "t"], "bad": ["x"]})
    assert corpus.seconds == pytest.approx(3600 + 1800 + 0.01)
    assert corpus.files == 2
    assert corpus.describe() == {
        "name": "music", "weight": 2.0, "files": 2, "hours": 1.5, "sample_rates": [44_100, 48_000],
        "left_out": {"bad": 1, "short": 2},
    }  # fmt: skip
    assert corpus.complaint == "music: 2 of 5 files are used; left out: 1 bad, 2 short (such as x, s)"
    whole = Corpus("music", 1.0, parts)
    assert whole.complaint is None
    assert "left_out" not in whole.describe()


def test_rounding_of_the_weights_leaves_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws beyond the last edge, which may lie below 1 by rounding, are the last corpus's."""
    monkeypatch.setattr("m2l.training.data.read_audio", lambda *p: (np.full((1, CROP), 0.5, np.float32), 44_100))
    crops = Crops([Corpus(n, 1.0, (Stretch(n, 44_100, 1, 0, CROP),)) for n in "xy"], tiny(("x",)), CONFIG)
    crops._edges = np.array([0.5, 0.6])
    origins = [crops[item]["origin"][0] for item in range(20)]
    assert set(origins) == {"x", "y"}
    assert origins.count("y") > 4


@pytest.mark.parametrize(("size", "fits"), [(2**29, True), (2**29 + 1, False)])
def test_a_manifest_is_no_longer_than_half_a_gibibyte(
    size: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.csv").touch()
    os.truncate(tmp_path / "long.csv", size)
    monkeypatch.setattr(Path, "read_text", lambda path, **options: "no path here")
    with pytest.raises(DataError, match="it has no rows" if fits else f"it has {size} bytes"):
        open_corpus(str(tmp_path / "long.csv"), 100)
