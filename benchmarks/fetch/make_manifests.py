"""Writes the manifests of the open data sets: `python -m benchmarks.fetch.make_manifests DATA_DIR`.

DATA_DIR holds the files together with the tables that describe them (music/tracks.csv, music/clips.csv,
speech/speech.csv, notes/notes.csv). A manifest contains figures and metadata, never audio.

`published` tells what the sha256 of a row means. `yes`: the file is the source file, byte for byte, so a download
must have this digest. `no`: the file was re-encoded from the source, whose digest is unknown; a download is
verified by sample rate, channels and duration instead.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from m2l.io.atomic import write_atomic
from m2l.io.digest import file_sha256

HERE = Path(__file__).resolve().parent.parent / "datasets"


def main(argv: list[str] | None = None) -> int:
    """Write all manifests; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) not in (1, 2):
        print("usage: python -m benchmarks.fetch.make_manifests DATA_DIR [OUT_DIR]", file=sys.stderr)
        return 2
    root, out = Path(arguments[0]), Path(arguments[1]) if len(arguments) == 2 else HERE
    for name, rows in {
        "open_music.csv": music(root),
        "open_music_clips.csv": music_clips(root),
        "open_speech.csv": speech(root),
        "open_notes.csv": notes(root),
    }.items():
        write_csv(out / name, rows)
        print(f"{name}: {len(rows)} rows", file=sys.stderr)
    return 0


def music(root: Path) -> list[dict[str, object]]:
    """One row per track. The music files are the published ones: nothing was re-encoded."""
    return [
        {
            "path": row["path"],
            "split": row["split"],
            "title": row["track"],
            "artist": row["artist"] or "vocadito singer 1",
            "genre": row["genre"],
            **_sound(row),
            "codec": row["codec"],
            "kbps": row["kbps"],
            **_file(root, row, "yes"),
        }
        for row in read_csv(root / "music" / "tracks.csv")
    ]


def music_clips(root: Path) -> list[dict[str, object]]:
    """One row per excerpt."""
    keep = ("path", "start", "seconds", "bandwidth_khz", "image")
    return [{k: row[k] for k in keep} for row in read_csv(root / "music" / "clips.csv")]


def speech(root: Path) -> list[dict[str, object]]:
    """One row per sentence. Published as FLAC; the copy in DATA_DIR is Ogg Vorbis."""
    return [
        {
            **{key: row[key] for key in ("path", "speaker", "language", "sex")},
            **_sound(row),
            "text": row["text"],
            **_file(root, row, "yes" if Path(row["source"]).suffix == Path(row["path"]).suffix else "no"),
        }
        for row in read_csv(root / "speech" / "speech.csv")
    ]


def _sound(row: dict[str, str]) -> dict[str, object]:
    return {"sample_rate": row["sr"], "channels": row["channels"], "seconds": row["seconds"]}


def _file(root: Path, row: dict[str, str], published: str) -> dict[str, object]:
    path = root / row["path"]
    return {
        "license": row["licence"],
        "source": row["source"],
        "published": published,
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
    }


def notes(root: Path) -> list[dict[str, object]]:
    """One short row per note: paths, pitch names, license and source follow from these by rule."""
    return [
        {
            "instrument": row["instrument"],
            "midi": row["midi"],
            "dynamic": row["dynamic"],
            "fold": row["fold"],
            "seconds": row["seconds"],
            "cents_off": row["f0_cents_off"],
            "pitch_check": row["pitch_check"],
            "sha256_prefix": file_sha256(root / "notes" / row["path"])[:16],
        }
        for row in read_csv(root / "notes" / "notes.csv")
    ]


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as dictionaries of strings."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows beside `path` and rename."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


if __name__ == "__main__":
    sys.exit(main())
