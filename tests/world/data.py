"""The paper's four evaluation sets in published layout, with little audio: names, folders, tables, archives.

Layouts: Zenodo records 3685367 (TinySOL) and 1101082 (Beatport) with mirdata's indexes, MagnaTagATune's three parts of
one zip and two tables, MusicCaps' list of segments. Same bytes for every build.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.datasets.musiccaps import LIST, read_list, segments_sha256
from benchmarks.fetch.corpora import catalog
from benchmarks.fetch.corpora.musiccaps import LIST_URLS
from probes.metrics import KEYS, PITCH_CLASSES
from probes.tasks import magnatagatune
from probes.tasks.tinysol import INSTRUMENTS

from .archives import md5, tar_of, zip_of

#: Seconds of audio of each clip. MusicCaps' clips have to have the published ten.
NOTE, EXCERPT, CLIP = 0.3, 0.4, 0.6
#: MusicCaps: what the stand-in of yt-dlp says of those videos that are no video of full length.
LOST = {
    "gone0000001": {"error": "Video unavailable. This video has been removed by the uploader"},
    "gone0000002": {
        "error": "This video is no longer available because the YouTube account associated with this video has been "
        "terminated."
    },
    "ratelimit01": {"error": "Video unavailable. This content isn't available, try again later."},
    "tooshort001": {"seconds": 35.0, "rate": 44100},
}
_ZENODO = "web/zenodo.org/records"


def build(root: Path) -> None:
    """Write all data of a world, what its tables have to expect, and the stand-ins of programs."""
    counts: dict[str, Any] = {"corpora": {}}
    for name, write in (("tinysol", _tinysol), ("beatport", _beatport), ("magnatagatune", _magnatagatune)):
        rows, files, size = write(root)
        counts[name] = rows
        counts["corpora"][name] = {"files": files, "bytes": size}
    counts["musiccaps"] = _musiccaps(root)
    _write(root / "counts.json", json.dumps(counts, indent=1).encode())
    _programs(root)


# ---- audio and containers ---------------------------------------------------------------------------


def sound(pitches: Iterable[float], seconds: float, rate: int, form: str, channels: int = 1, seed: int = 0) -> bytes:
    """A file with a chord of decaying tones, a little noise, and channels that differ.

    Args:
        pitches: MIDI numbers.
        seconds: length.
        rate: in Hz.
        form: as libsndfile names it.
        channels: how many.
        seed: of the noise and of the tones' loudness.
    """
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = np.zeros((len(time), channels))
    for pitch in pitches:
        for harmonic in range(1, 5):
            wave = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * harmonic * time)
            tones += wave[:, None] * draw.uniform(0.2, 1.0, channels) / harmonic
    tones *= np.exp(-time * draw.uniform(0.2, 1.0))[:, None] / (1e-9 + np.abs(tones).max())
    out = io.BytesIO()
    soundfile.write(out, 0.5 * tones + 0.003 * draw.standard_normal(tones.shape), rate, format=form)
    return out.getvalue()


def _table(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _index(root: Path, record: int, name: str, version: str, tracks: Mapping[str, Any]) -> None:
    """One of mirdata's indexes, at its two addresses."""
    data = json.dumps({"version": version, "tracks": tracks}).encode()
    place = catalog.MIRDATA.removeprefix("github:").replace("@", "/")
    _write(root / f"{_ZENODO}/{record}/files/{name}", data)
    _write(root / f"web/raw.githubusercontent.com/{place}/mirdata/datasets/indexes/{name}", data)


# ---- TinySOL ----------------------------------------------------------------------------------------


def _tinysol(root: Path) -> tuple[dict[str, Any], int, int]:
    """A note of every instrument, and so of every pitch class, in two folds; few in the others.

    Three folds in a row train a probe, and must have them all. The first two test and validate it.
    """
    files, rows, tracks = {}, [], {}
    for number, instrument in enumerate(INSTRUMENTS):
        for fold in range(5) if number < 3 else (2, 4):
            pitch = (number + 5 * fold) % 12
            name, short = f"{PITCH_CLASSES[pitch]}4", "".join(word[:2] for word in instrument.split())
            stem = f"{short}-ord-{name}-mf-{fold}c-N"
            path = f"{_family(instrument)}/{instrument.replace(' ', '_')}/ordinario/{stem}.wav"
            files[path] = sound([60 + pitch], NOTE, 44100, "WAV", seed=100 * number + fold)
            tracks[stem] = {"audio": [f"audio/{path}", md5(files[path])]}
            rows.append({
                "Path": path, "Fold": fold, "Family": _family(instrument), "Instrument (abbr.)": short,
                "Instrument (in full)": instrument, "Technique (abbr.)": "ord", "Technique (in full)": "ordinario",
                "Pitch": name, "Pitch ID": 60 + pitch, "Dynamics": "mf", "Dynamics ID": 2, "Instance ID": 0,
                "String ID (if applicable)": "", "Needed digital retuning": False,
            })  # fmt: skip
    archive = gzip.compress(tar_of({f"TinySOL/{path}": data for path, data in files.items()}), mtime=0)
    _write(root / f"{_ZENODO}/3685367/files/TinySOL.tar.gz", archive)
    _write(root / f"{_ZENODO}/3685367/files/TinySOL_metadata.csv", _table(rows))
    _index(root, 13993273, catalog.TINYSOL_INDEX, "6.0", tracks)
    return {"folds": Counter(row["Fold"] for row in rows)}, len(files), len(archive)


def _family(instrument: str) -> str:
    if instrument in ("Violin", "Viola", "Cello", "Contrabass"):
        return "Strings"
    if instrument == "Accordion":
        return "Keyboards"
    return "Brass" if instrument.split()[0] in ("Bass", "French", "Trombone", "Trumpet") else "Winds"


# ---- Beatport ---------------------------------------------------------------------------------------


def _beatport(root: Path, each: int = 5) -> tuple[dict[str, Any], int, int]:
    """Of each of the 24 keys `each` tracks (one for each fold), and two whose label no probe uses.

    A few keys are validated and tested.
    """
    labels = [key for _ in range(each) for key in KEYS] + ["A minor | C major", "F other"]
    audio, keys, meta, tracks = {}, {}, {}, {}
    used: dict[str, list[str]] = {key: [] for key in KEYS}
    for number, label in enumerate(labels, start=1):
        title = "Là-bas" if number == 1 else f"Track {number}"
        name = f"{100000 + number} Artist {number} - {title} (Original Mix)"
        tonic, mode = label.split(" ")[:2]
        root_pitch = 48 + PITCH_CLASSES.index(tonic)
        chord = [root_pitch, root_pitch + (3 if mode == "minor" else 4), root_pitch + 7]
        audio[f"audio/{name}.mp3"] = sound(chord, EXCERPT, 44100, "MP3", 2, seed=number)
        keys[f"keys/{name}.txt"] = label.encode()
        if number % 2:
            meta[f"meta/{name}.json"] = b'{"bpm": nan}'
        tracks[str(number)] = {
            "audio": [f"audio/{name}.mp3", md5(audio[f"audio/{name}.mp3"])],
            "key": [f"keys/{name}.txt", md5(label.encode())],
            "meta": [f"meta/{name}.json", md5(b'{"bpm": null}')] if number % 2 else [None, None],
        }
        if label in used:
            used[label].append(str(number))
    size = 0
    for archive, files in (("audio.zip", audio), ("keys.zip", keys), ("original_metadata.zip", meta)):
        packed = zip_of(files | {f"__MACOSX/{next(iter(files)).partition('/')[0]}/._junk.txt": b"junk"})
        _write(root / f"{_ZENODO}/1101082/files/{archive}", packed)
        size += len(packed)
    _index(root, 13993022, catalog.BEATPORT_INDEX, "1.0.0", tracks)
    held = {
        part: sorted((ids[place] for ids in [*used.values()][::6]), key=int)
        for part, place in (("validation", 1), ("test", 2))
    }
    return {"keys": used, **held}, len(audio) + len(keys) + len(meta), size


# ---- MagnaTagATune ----------------------------------------------------------------------------------


def _magnatagatune(root: Path) -> tuple[dict[str, Any], int, int]:
    """Clips of all folders; three that the stored list leaves out, one without tags, three damaged ones."""
    tags = magnatagatune.stored()["tags"]
    draw = np.random.default_rng(0)
    folders = [*"0123456789ab", "c", "c", "c", "c", "d", "d", "e", "e", "f", "f"]
    clips: list[tuple[int, str, list[str]]] = []
    for number, folder in enumerate(folders, start=1):
        # Every tag is in every part, and missing from a clip of it.
        place = folders[: number - 1].count(folder) if folder == "c" else number - 1
        chosen = [tag for i, tag in enumerate(tags) if (i % 2 == place % 2 if place < 2 else draw.random() < 0.5)]
        if folder in "def":
            chosen = [tag for i, tag in enumerate(tags) if (i + number) % 2 == 0 or draw.random() < 0.2]
        artist = f"artist_{number}" if folder != "e" else "artist_e"
        clips.append((number, f"{folder}/{artist}-album-{number:02d}-song-0-29.mp3", chosen))
    untagged = (100, "0/artist_u-album-01-song-29-58.mp3", list[str]())
    damaged = [
        (35644, "6/artist_x-album-08-song-117-146.mp3", []),
        (55753, "8/artist_y-album-19-song-204-233.mp3", tags[:1]),
        (57881, "9/artist_z-album-25-song-88-117.mp3", tags[:1]),
    ]
    files = {
        path: sound([48 + number % 24, 55 + number % 24], CLIP, 16000, "MP3", seed=number)
        for number, path, _ in (*clips, untagged)
    } | {path: b"" if number == 35644 else b"not an mp3" for number, path, _ in damaged}
    rows = [
        {"clip_id": number}
        | {tag: int(tag in chosen) for tag in [*tags, *(f"other {i}" for i in range(138))]}
        | {"mp3_path": path}
        for number, path, chosen in (*clips, untagged, *damaged)
    ]
    info = [
        {"clip_id": number, "track_number": 1, "title": "song", "artist": magnatagatune.artist(path), "album": "album",
         "url": "http://example.org", "segmentStart": 0, "segmentEnd": 29, "original_url": "", "mp3_path": path}
        for number, path, _ in (*clips, untagged, *damaged)
    ]  # fmt: skip
    packed = zip_of(files)
    step = -(-len(packed) // 3)
    served = {f"mp3.zip.{i + 1:03d}": packed[i * step : (i + 1) * step] for i in range(3)}
    served |= {"annotations_final.csv": _table(rows, "\t"), "clip_info_final.csv": _table(info, "\t")}
    for host in ("mirg.city.ac.uk", "mi.soi.city.ac.uk"):
        for name, data in served.items():
            _write(root / f"web/{host}/datasets/magnatagatune/{name}", data)
    # The tables that the split is held against.
    parts = {part: [n for n, path, _ in clips if magnatagatune.PARTS[path[0]] == part] for part in _PARTS}
    won = {part: len(numbers) for part, numbers in parts.items()}
    stored = parts | {"train": parts["train"][:-3]}
    return {
        "clips": len(rows), "ids": stored, "won": won, "all": won | {"train": won["train"] + 1},
    }, len(rows), len(packed)  # fmt: skip


_PARTS = ("train", "validation", "test")


# ---- MusicCaps --------------------------------------------------------------------------------------


def _musiccaps(root: Path) -> dict[str, Any]:
    """A list of twelve segments, and what the stand-in of yt-dlp finds behind them."""
    videos: dict[str, dict[str, Any]] = {
        f"video{number:06d}": {"seconds": 60.0 + number, "rate": (44100, 48000)[number % 2]} for number in range(8)
    } | LOST
    rows = [
        {
            "ytid": ytid, "start_s": 30, "end_s": 40, "audioset_positive_labels": "/m/04rlf",
            "aspect_list": "['sad', 'piano']", "caption": f"A piano, number {number}", "author_id": 4,
            "is_balanced_subset": number % 3 == 0, "is_audioset_eval": number % 2 == 0,
        }
        for number, ytid in enumerate(sorted(videos))
    ]  # fmt: skip
    place = root / "web" / LIST_URLS[0].removeprefix("https://")
    _write(place, _table(rows))
    assert place.name == LIST
    _write(root / "videos.json", json.dumps(videos, indent=1).encode())
    segments = read_list(place, complete=False)
    evaluation = sum(segment.evaluation for segment in segments)
    return {"clips": len(rows), "evaluation": evaluation, "segments": segments_sha256(segments)}


def _programs(root: Path) -> None:
    """Stand-ins on the path: yt-dlp, and the two programs that it needs."""
    here = Path(__file__).resolve().with_name("stand_in_yt_dlp.py")
    words = [sys.executable, "-I", str(here), str((root / "videos.json").resolve())]
    for name, body in (
        ("yt-dlp", f'exec {shlex.join(words)} "$@"'),
        ("ffmpeg", "echo 'ffmpeg version n7.1'"),
        ("node", "echo v22.0.0"),
    ):
        _write(root / "bin" / name, f"#!/bin/sh\n{body}\n".encode())
        (root / "bin" / name).chmod(0o755)
