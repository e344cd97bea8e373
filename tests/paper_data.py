"""Miniatures of the paper's data sets as they are published."""

from __future__ import annotations

import bz2
import csv
import fnmatch
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
from world.archives import md5, tar_of, zip_of

from benchmarks.fetch.corpora import catalog
from benchmarks.fetch.corpora.corpus import Archive, Corpus
from benchmarks.fetch.expected import Expected
from benchmarks.fetch.transfer import Item
from probes.tasks import magnatagatune


@cache
def sound(number: int, rate: int, form: str, channels: int = 1) -> bytes:
    """A tenth of a second of a tone, another one for every number."""
    time_axis = np.arange(rate // 10) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * time_axis)
    out = io.BytesIO()
    soundfile.write(out, np.stack([tone] * channels, axis=1), rate, format=form)
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Mini:
    """A miniature.

    Attributes:
        corpus: The catalog's entry, with the checksums and counts of the miniature.
        served: Path on the server (host and path) -> bytes.
        files: What has to be in the data set's folder afterward.
        archives: Paths of `served` that are (parts of) archives.
        by_hand: Archives, by name, that the publisher's own script downloads.
        victim: Those of `archives` that are one and the same file, on all its mirrors.
    """

    corpus: Corpus
    served: dict[str, bytes]
    files: dict[str, bytes]
    archives: list[str] = field(default_factory=list)
    by_hand: dict[str, bytes] = field(default_factory=dict)

    def download_by_hand(self, folder: Path) -> Path:
        """Do what the publisher's script does."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.by_hand.items():
            (folder / name).write_bytes(data)
        return folder

    @property
    def victim(self) -> list[str]:
        return [path for path in self.archives if self.served[path] == self.served[self.archives[0]]]


def _miniature(corpus: Corpus, bodies: dict[str, bytes], files: dict[str, bytes], count: int | None) -> Mini:
    """Serve `bodies` (by file name) under all addresses that the catalog gives for them."""
    served: dict[str, bytes] = {}
    by_hand: dict[str, bytes] = {}
    archives: list[str] = []

    def place(item: Item) -> Item:
        pattern = item.path.rpartition("/")[2]
        name = next(name for name in bodies if fnmatch.fnmatch(name, pattern))
        body = bodies[name]
        if not item.urls:  # the publisher's own script downloads it
            by_hand[name] = body
        for url in item.urls:
            parts = urlsplit(url)
            served[f"/{parts.netloc}{unquote(parts.path)}"] = body
        algorithm = (item.expected.digest or "").partition(":")[0]
        digest = {"md5": f"md5:{md5(body)}", "sha256": f"sha256:{sha256(body)}", "": None}[algorithm]
        size = len(body) if item.expected.size is not None else None
        return replace(item, expected=Expected(size, digest, item.expected.check))

    def listed(folder: Path) -> list[Archive]:
        return [replace(a, parts=tuple(map(place, a.parts))) for a in corpus.archives(folder)]

    items = tuple(place(item) for item in corpus.items)
    mini = replace(corpus, items=items, archives=listed, count=count, transfer_bytes=None, unpacked_bytes=None)
    plain = set(served)
    lists = {item.path.rpartition("/")[2]: item.path for item in items}
    with _written({path: bodies[name] for name, path in lists.items()}) as folder:
        mini.archives(folder)
    archives = sorted(set(served) - plain)
    return Mini(mini, served, {path: bodies[name] for name, path in lists.items()} | files, archives, by_hand)


@contextmanager
def _written(files: dict[str, bytes]) -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        for path, data in files.items():
            (Path(temporary) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(temporary) / path).write_bytes(data)
        yield Path(temporary)


def tinysol() -> Mini:
    files, rows = {}, []
    for number in range(10):
        instrument, pitch = ("Cello", "Violin")[number % 2], ("C#3", "D4")[number % 2]
        path = f"Strings/{instrument}/ordinario/{instrument[:2]}-ord-{pitch}-mf-{number}c-N.wav"
        files[f"audio/{path}"] = sound(number, 44100, "WAV")
        rows.append({"Path": path, "Fold": number % 5, "Instrument (in full)": instrument, "Pitch": pitch})
    index = {Path(path).stem: {"audio": [path, md5(data)]} for path, data in files.items()}
    bodies = {
        "TinySOL_metadata.csv": _table(rows, ","),
        catalog.TINYSOL_INDEX: json.dumps({"version": "6.0", "tracks": index}).encode(),
        "TinySOL.tar.gz": gzip.compress(
            tar_of({path.replace("audio/", "TinySOL/"): data for path, data in files.items()}), mtime=0
        ),
    }
    return _miniature(catalog.TINYSOL, bodies, files, 10)


def beatport() -> Mini:
    names = ["100 A - x (Original Mix)", "101 Bé - y ‘97 (Mix)", "102 A, C - z (Mix)", "103 Nu:D - q (Mix)"]
    texts = ["C minor", "Eb major", "A minor | C major", "G minor"]
    for number in range(4, 12):  # five folds need as many tracks of a key
        names.append(f"{100 + number} Artist {number} - t{number} (Mix)")
        texts.append(("C minor", "Eb major")[number % 2])
    files: dict[str, bytes] = {}
    index: dict[str, Any] = {}
    for number, (name, text) in enumerate(zip(names, texts, strict=True), start=1):
        files[f"audio/{name}.mp3"] = sound(number, 44100, "MP3", 2)
        files[f"keys/{name}.txt"] = text.encode()
        pairs = {kind: f"{kind}/{name}.{ext}" for kind, ext in (("audio", "mp3"), ("keys", "txt"))}
        index[str(number)] = {
            "audio": [pairs["audio"], md5(files[pairs["audio"]])],
            "key": [pairs["keys"], md5(files[pairs["keys"]])],
            "meta": [None, None],
        }
    files["meta/100 A - x (Original Mix).json"] = b'{"bpm": nan}'
    index["1"]["meta"] = ["meta/100 A - x (Original Mix).json", md5(b'{"bpm": null}')]
    bodies = {
        name: zip_of(
            {path: data for path, data in files.items() if path.startswith(below)}
            | {f"__MACOSX/{below}/._junk.mp3": b"junk"}
        )
        for name, below in (("audio.zip", "audio"), ("keys.zip", "keys"), ("original_metadata.zip", "meta"))
    }
    bodies[catalog.BEATPORT_INDEX] = json.dumps({"version": "1.0.0", "tracks": index}).encode()
    return _miniature(catalog.BEATPORT, bodies, files, 25)


def magnatagatune_mini(monkeypatch: pytest.MonkeyPatch) -> Mini:
    """Nine clips: folders of all three parts, one without tags, and the three whose audio is damaged."""
    tags = magnatagatune.stored()["tags"]
    clips = [
        (1, "0/artist_a-album-01-song-0-29.mp3", tags),
        (2, "0/artist_a-album-01-song-29-58.mp3", []),
        (3, "b/artist_b-album-02-song-0-29.mp3", tags),
        (4, "c/artist_c-album-03-song-0-29.mp3", tags[:1]),
        (5, "d/artist_a-other-04-song-0-29.mp3", tags[4:5]),
        (6, "f/artist_d-album-05-song-0-29.mp3", tags[5:6]),
        (35644, "6/artist_e-album-08-song-117-146.mp3", []),
        (55753, "8/artist_f-album-19-song-204-233.mp3", tags[:1]),
        (57881, "9/artist_g-album-25-song-88-117.mp3", tags[:1]),
    ]
    rows = [
        {"clip_id": number}
        | {tag: int(tag in chosen) for tag in [*tags, *(f"other {i}" for i in range(138))]}
        | {"mp3_path": path}
        for number, path, chosen in clips
    ]
    files = {f"mp3/{path}": sound(number, 16000, "MP3") for number, path, _ in clips}
    files[f"mp3/{clips[6][1]}"] = b""
    files[f"mp3/{clips[7][1]}"] = files[f"mp3/{clips[8][1]}"] = b"not an mp3"
    packed = zip_of({path.removeprefix("mp3/"): data for path, data in files.items()})
    step = -(-len(packed) // 3)
    bodies = {f"mp3.zip.{i + 1:03d}": packed[i * step : (i + 1) * step] for i in range(3)}
    bodies["annotations_final.csv"] = _table(rows, "\t")
    monkeypatch.setattr(catalog, "MTT_CLIPS", len(clips))
    return _miniature(catalog.MAGNATAGATUNE, bodies, files, len(clips))


def jamendo(monkeypatch: pytest.MonkeyPatch) -> Mini:
    paths = ["00/7000.mp3", "00/1009600.mp3", "01/7001.mp3"]
    files = {f"audio/{path}": sound(i, (44100, 48000)[i % 2], "MP3", 2) for i, path in enumerate(paths)}
    tars = {
        f"raw_30s_audio-{n}.tar": tar_of(
            {path.removeprefix("audio/"): data for path, data in files.items() if f"/{n}/" in path}
        )
        for n in ("00", "01")
    }
    tsv = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n" + "".join(
        f"track_{i}\tartist_{i % 2}\talbum_{i}\t{path}\t{40 + i}.5\tgenre---rock\tinstrument---piano\n"
        for i, path in enumerate(paths)
    )
    bodies = tars | {
        "raw_30s_audio_sha256_tars.txt": _sums(tars),
        "raw_30s_audio_sha256_tracks.txt": _sums({p.removeprefix("audio/"): d for p, d in files.items()}),
        "raw_30s.tsv": tsv.encode(),
    }
    monkeypatch.setattr(catalog, "JAMENDO_TARS", 2)
    monkeypatch.setattr(catalog, "JAMENDO_TRACKS", 3)
    return _miniature(catalog.MTG_JAMENDO, bodies, files, 3)


def dns4(monkeypatch: pytest.MonkeyPatch) -> Mini:
    groups = {"VocalSet_48kHz_mono": 1, "read_speech": 2}
    monkeypatch.setattr(catalog, "DNS_GROUPS", groups)
    inner = {
        "VocalSet_48kHz_mono_000_NA_NA": ["VocalSet_48kHz_mono/female1/f1_scales.wav"],
        "read_speech_000_0.00_3.75": ["read_speech/book_1.wav", "read_speech/book_2.wav"],
        "read_speech_001_3.75_NA": ["read_speech/book_3.wav"],
    }
    files, bodies = {}, {}
    for number, (name, paths) in enumerate(inner.items()):
        members = {
            f"datasets_fullband/clean_fullband/{path}": sound(10 * number + i, 48000, "WAV")
            for i, path in enumerate(paths)
        }
        files |= {path.removeprefix("datasets_fullband/"): data for path, data in members.items()}
        packed = tar_of(members | {"datasets_fullband/clean_fullband/README.txt": b"about"})
        bodies[f"datasets_fullband.clean_fullband.{name}.tar.bz2"] = bz2.compress(packed)
    return _miniature(catalog.DNS4, bodies, files, None)


def miniature(name: str, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """One of the five, put into the catalog in place of the real one."""
    mini = {
        "tinysol": lambda: tinysol(),
        "beatport": lambda: beatport(),
        "magnatagatune": lambda: magnatagatune_mini(monkeypatch),
        "mtg-jamendo": lambda: jamendo(monkeypatch),
        "dns4": lambda: dns4(monkeypatch),
    }[name]()
    monkeypatch.setitem(catalog.CORPORA, name, mini.corpus)
    return mini


def _table(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{sha256(data)} {name}\n" for name, data in files.items()).encode()
