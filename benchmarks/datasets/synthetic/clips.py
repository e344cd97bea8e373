"""Synthetic music with known labels, in the shape of the real sets: clips, tagged clips, keyed tracks.

Nothing is stored: a clip is an integer seed, and `load()` renders it, the same samples every time. Single
notes are in `synthetic_notes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.base import Clip, check_split, digest_of
from benchmarks.datasets.synthetic import VERSION
from benchmarks.datasets.synthetic.composition import Piece, compose
from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.harmony import ALL_KEYS, parse_key
from benchmarks.datasets.synthetic.instruments import TAG_OF_INSTRUMENT
from benchmarks.datasets.synthetic.mixing import render
from benchmarks.datasets.synthetic.styles import STYLES, draw_artist
from benchmarks.store.fingerprint import code_digest
from benchmarks.store.remembered import remembered

SAMPLE_RATE = 44100
NOTICE = "Synthesized by this package from integer seeds; no recording is involved."
LICENSE = "CC0-1.0 (generated)"
CITATION = "Synthetic music of the m2l benchmark suite"

# The vocabulary of `synthetic-tags`, in alphabetical order: tags that are neither rare nor everywhere.
TAGS = (
    "ambient", "bass", "bells", "brass", "chiptune", "choir", "classical", "dance", "drums", "electronic",
    "fast", "flute", "folk", "funk", "guitar", "jazz", "loud", "no drums", "orchestral", "organ", "piano",
    "quiet", "rock", "slow", "strings", "synth", "techno", "violin", "woodwind",
)  # fmt: skip


@dataclass(frozen=True)
class PieceLoader:
    """Renders one piece. Everything about it follows from these few values.

    Attributes:
        seed: The clip's seed.
        style: Name of the style.
        artist: Name of the artist; equal names are equal artists.
        key: Name of the key, as in "C# minor".
        seconds: Length.
        sample_rate: In Hz.
    """

    seed: int
    style: str
    artist: str
    key: str
    seconds: float
    sample_rate: int = SAMPLE_RATE

    def piece(self) -> Piece:
        """Compose it, without rendering."""
        artist = draw_artist(STYLES[self.style], self.artist, Draw("artist", self.artist))
        return compose(artist, parse_key(self.key), self.seconds, Draw("piece", self.seed, self.style, self.artist))

    def __call__(self) -> tuple[npt.NDArray[np.float32], int]:
        """Return stereo samples (2, samples) and the sample rate."""
        audio = render(self.piece(), Draw("render", self.seed, self.style, self.artist), self.sample_rate)
        return audio, self.sample_rate

    def clip(self, dataset: str, split: str, labels: dict[str, Any] | None = None) -> Clip:
        """Wrap it as a clip with the labels that follow from the composition: `piece_labels`, if not given."""
        known = piece_labels(self.piece()) if labels is None else labels
        return Clip(
            id=f"{dataset}-{self.seed:06d}",
            dataset=dataset,
            digest=digest_of(
                "synthetic piece", VERSION, self.seed, self.style, self.artist, self.key, self.seconds, self.sample_rate
            ),
            labels={**known, "seed": self.seed},
            source=f"generated: seed {self.seed}",
            loader=self,
            split=split,
            seconds=self.seconds,
            license=LICENSE,
        )


def piece_labels(piece: Piece) -> dict[str, Any]:
    """Everything that is true of a piece by construction; only parts that sound count."""
    playing = {note.role for note in piece.notes}
    parts = {role: name for role, name in piece.instruments.items() if role in playing}
    low, high = piece.artist.style.loudness
    level = low + (high - low) * (piece.dynamic - 0.55) / 0.4
    return {
        "style": piece.artist.style.name,
        "artist": piece.artist.name,
        "key": piece.key.name,
        "tonic": piece.key.tonic,
        "mode": piece.key.mode,
        "tempo": piece.tempo,
        "beats_per_bar": piece.beats,
        "first_beat": piece.first_beat,
        "instruments": sorted({*parts.values(), *({"drums"} if piece.hits else set())}),
        "parts": parts,
        "level_dbfs": round(level, 2),
        "tags": piece_tags(piece, parts, level),
        "caption": caption(piece, parts),
    }


def piece_tags(piece: Piece, parts: dict[str, str], level: float) -> list[str]:
    """Tags in the vocabulary of `TAGS`: genre, instruments, tempo, loudness."""
    tags = {*piece.artist.style.tags, *(TAG_OF_INSTRUMENT[name] for name in parts.values())}
    tags.add("drums" if piece.hits else "no drums")
    if piece.tempo >= 126:
        tags.add("fast")
    if piece.tempo <= 86:
        tags.add("slow")
    if level >= -15:
        tags.add("loud")
    if level <= -22:
        tags.add("quiet")
    return sorted(tags & set(TAGS))


# Where the name of an instrument does not fit a sentence.
_SPOKEN = {
    "strings": "string section",
    "bells": "set of bells",
    "clarinet in bb": "clarinet",
    "trumpet in c": "trumpet",
}


def caption(piece: Piece, parts: dict[str, str]) -> str:
    """One or two sentences in the manner of MusicCaps."""
    moods = piece.artist.style.moods
    mood = moods[int(piece.tempo * 10) % len(moods)]
    pace = "slow" if piece.tempo <= 86 else "fast" if piece.tempo >= 126 else "mid-tempo"
    lines = [f"This {mood} {piece.artist.style.name} piece is {pace}, at {piece.tempo:.0f} bpm, in {piece.key.name}."]
    roles = {
        "melody": "plays the melody",
        "chords": "plays the chords",
        "bass": "plays the bass line",
        "pad": "holds a sustained background",
    }
    names = {role: _SPOKEN.get(name, name) for role, name in parts.items()}
    articles = {role: "an" if name[0] in "aeiou" else "a" for role, name in names.items()}
    heard = [f"{articles[role]} {names[role]} {does}" for role, does in roles.items() if role in names]
    joined = heard[0] if len(heard) == 1 else ", ".join(heard[:-1]) + " and " + heard[-1]
    lines.append(joined[0].upper() + joined[1:] + ".")
    lines.append("There is a drum groove." if piece.hits else "There are no drums.")
    return " ".join(lines)


class _Synthetic:
    """What the three sets share."""

    version = f"1.{VERSION}"
    license = LICENSE
    citation = CITATION
    notice = NOTICE
    name: str
    splits: tuple[str, ...]

    def __init__(self, size: int, seconds: float, seed: int, sample_rate: int) -> None:
        if size < 1 or seconds <= 0 or seed < 0 or sample_rate < 8000:
            raise ValueError(
                f"{self.name}: size {size!r}, seconds {seconds!r}, seed {seed!r}, sample_rate {sample_rate!r}: "
                "size >= 1, seconds > 0, seed >= 0 and sample_rate >= 8000 are needed"
            )
        self.size, self.seconds, self.seed, self.sample_rate = size, float(seconds), seed, sample_rate

    def _plan(self) -> list[tuple[PieceLoader, str]]:
        """What there is: each piece with its split, in the order of the seeds."""
        raise NotImplementedError

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the clips of a split (None: all of them), in the order of their seeds.

        Raises:
            ValueError: The split does not exist.
        """
        check_split(split, self.splits, self.name)
        plan = self._plan()
        # Composing some hundred pieces takes half a second, and a list of clips needs nothing of them but labels.
        name = f"{self.name}-{self.size}x{self.seconds}s-{self.seed}-{self.sample_rate}"
        labels = remembered(name, code_digest(__name__), lambda: [piece_labels(loader.piece()) for loader, _ in plan])
        return [
            loader.clip(self.name, its, known)
            for (loader, its), known in zip(plan, labels, strict=True)
            if split in (None, "all", its)
        ]

    def _loader(self, index: int, style: str, artist: str, key: str) -> PieceLoader:
        return PieceLoader(self.seed + index, style, artist, key, self.seconds, self.sample_rate)


class SyntheticClips(_Synthetic):
    """Stereo clips for reconstruction, in the manner of MusicCaps: 10 s each, with a caption.

    Styles take turns; key and artist are each clip's own. Other values of `seed` give other clips: the
    default set uses seeds 0 … size - 1, so that from 1,000,000 on they are free for training or for a
    reference set.

    Args:
        size: Number of clips.
        seconds: Length of each.
        seed: Seed of the first clip.
        sample_rate: In Hz.
    """

    name = "synthetic"
    splits = ("test",)

    def __init__(self, size: int = 24, seconds: float = 10.0, seed: int = 0, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__(size, seconds, seed, sample_rate)

    def _plan(self) -> list[tuple[PieceLoader, str]]:
        styles = list(STYLES)
        out = []
        for index in range(self.size):
            number = self.seed + index
            key = Draw("clip key", number).choice(ALL_KEYS)
            style = styles[number % len(styles)]
            out.append((self._loader(index, style, f"{style}-solo-{number}", key.name), "test"))
        return out


class SyntheticTags(_Synthetic):
    """Clips with several tags each, in the manner of MagnaTagATune; splits are disjoint by artist.

    Every style has ten artists: six for training, two for validation, two for the test. An artist is a
    choice of instruments, variations of their timbres, a kit, a room and a range of tempi, so a probe that
    has learned the artists of the training set is not enough.

    Args:
        size: Number of clips, a multiple of 100 (ten styles, ten artists each).
        seconds: Length of each.
        seed: Seed of the first clip.
        sample_rate: In Hz.
    """

    name = "synthetic-tags"
    splits = ("train", "valid", "test")
    group_name = "artist"
    tags = TAGS
    _SPLIT_OF_ARTIST = ("train",) * 6 + ("valid",) * 2 + ("test",) * 2

    def __init__(self, size: int = 300, seconds: float = 4.0, seed: int = 0, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__(size, seconds, seed, sample_rate)
        if size % 100:
            raise ValueError(f"{self.name}: size {size} is not a multiple of 100 (10 styles x 10 artists)")

    def _plan(self) -> list[tuple[PieceLoader, str]]:
        out = []
        for index in range(self.size):
            style = list(STYLES)[index % 10]
            number = index // 10 % 10
            key = Draw("tag key", self.seed + index).choice(ALL_KEYS)
            loader = self._loader(index, style, f"{style}-{self.seed}-{number}", key.name)
            out.append((loader, self._SPLIT_OF_ARTIST[number]))
        return out

    def clips(self, split: str | None = None) -> list[Clip]:
        """As for every set; the pieces of an artist are one group."""
        return [replace(clip, group=clip.labels["artist"]) for clip in super().clips(split)]


class SyntheticKeys(_Synthetic):
    """Key-labeled tracks over all 24 keys, in the manner of the Beatport set: stratified 80/10/10.

    Every key has the same number of tracks in each split. Styles rotate against keys, so that neither says
    anything about the other, and every track has an artist of its own.

    Args:
        size: Number of tracks, a multiple of 24 and at least 72.
        seconds: Length of each.
        seed: Seed of the first track.
        sample_rate: In Hz.
    """

    name = "synthetic-keys"
    splits = ("train", "valid", "test")
    keys = tuple(sorted(key.name for key in ALL_KEYS))  # alphabetical, as a label encoder has them

    def __init__(self, size: int = 240, seconds: float = 8.0, seed: int = 0, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__(size, seconds, seed, sample_rate)
        if size % 24 or size < 72:
            raise ValueError(f"{self.name}: size {size} is not a multiple of 24, or below 72 (one per key and split)")

    def _plan(self) -> list[tuple[PieceLoader, str]]:
        styles = list(STYLES)
        per_key = self.size // 24
        held_out = max(1, round(0.1 * per_key))
        out = []
        for index in range(self.size):
            key, turn = ALL_KEYS[index % 24], index // 24
            split = "test" if turn < held_out else "valid" if turn < 2 * held_out else "train"
            style = styles[(turn + 3 * (index % 24)) % len(styles)]
            artist = f"{style}-key-{self.seed + index}"
            out.append((self._loader(index, style, artist, key.name), split))
        return out
