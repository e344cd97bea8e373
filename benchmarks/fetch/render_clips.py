"""Renders the generated clips that the shipped checkpoints were trained on: synthetic music and steady tones."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import soundfile
from tqdm import tqdm

from benchmarks.datasets import create_dataset
from benchmarks.datasets.synthetic import VERSION
from benchmarks.datasets.tones import VERSION as TONES_VERSION
from m2l.io.atomic import write_atomic
from m2l.io.cache import cache_dir

#: Name under which `m2l-bench fetch` renders both sets.
TRAINING_CLIPS = "training-clips"
#: Clips of the default training set: their seeds begin far from those of any test clip (`SyntheticClips`).
FIRST_SEED, N_CLIPS, CLIP_SECONDS = 1_000_000, 150, 10.0
N_TONES = 96


def training_folder(name: str, root: Path | None = None) -> Path:
    """Where rendered clips of a set lie: below `root`, by default below the cache."""
    return (cache_dir() if root is None else root) / "training" / name


def render_synthetic(
    n_clips: int = N_CLIPS, seconds: float = CLIP_SECONDS, root: Path | None = None, quiet: bool = False
) -> Path:
    """Render synthetic music, disjoint from every test clip.

    Args:
        n_clips: number of clips.
        seconds: length of each.
        root: root of the data; by default the cache.
        quiet: no progress on stderr.

    Returns:
        The folder, whose name says what is in it: `m2l train` and `Trainer` take it as data.
    """
    folder = training_folder(f"synthetic-{VERSION}-{FIRST_SEED}-{n_clips}x{seconds:g}s", root)
    return _render("synthetic", folder, quiet, size=n_clips, seconds=seconds, seed=FIRST_SEED)


def render_tones(n_clips: int = N_TONES, root: Path | None = None, quiet: bool = False) -> Path:
    """Render steady tones; arguments and result are those of `render_synthetic`."""
    folder = training_folder(f"tones-{TONES_VERSION}-{n_clips}x{CLIP_SECONDS:g}s", root)
    return _render("tones", folder, quiet, size=n_clips, seconds=CLIP_SECONDS)


def _render(dataset: str, folder: Path, quiet: bool, **options: float) -> Path:
    """Write a data set's clips as FLAC files of 16 bits; existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        clip for clip in create_dataset(dataset, **options).clips() if not (folder / f"{clip.id}.flac").is_file()
    ]
    for clip in tqdm(missing, desc=f"rendering {dataset}", disable=quiet or not missing, file=sys.stderr):
        audio, rate = clip.load()
        buffer = io.BytesIO()
        soundfile.write(buffer, audio.T, rate, format="FLAC", subtype="PCM_16")
        write_atomic(folder / f"{clip.id}.flac", buffer.getvalue())  # beside, then renamed: whole or absent
    return folder
