"""What the averaged model does to held-out audio, while it trains: files to listen to, and numbers for the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from m2l.audio import AudioError
from m2l.config import create_config
from m2l.io.blocks import read_audio, write_audio
from m2l.model import Music2Latent
from m2l.training.data import Stretch, open_corpus

SECONDS = 10.0
#: Entry points of this group are functions of (originals, reconstructions, sample_rate) -> {name: value}.
GROUP = "m2l.validation"


class Validation:
    """Reconstructs the middle of a few files, mono, in one step, and writes them beside the originals.

    Args:
        source: as `open_corpus` takes it.
        folder: where `original/` and `step-…/` go.
        split: rows used of a manifest with a column `split`.
        clips: files used, evenly spread over the corpus. One that cannot be read is named and left out.
        quiet: do not name them, nor what was left out of the corpus.

    Raises:
        DataError: if there is no usable audio at `source`.
    """

    def __init__(
        self, source: str, folder: Path, split: str = "validation", clips: int = 8, *, quiet: bool = False
    ) -> None:
        corpus = open_corpus(source, create_config("paper").downsampling_ratio, split, folder.parent)
        self._quiet = quiet
        if corpus.complaint:
            self._say(f"validation: {corpus.complaint}")
        chosen = np.unique(np.linspace(0, len(corpus.stretches) - 1, clips).round().astype(int))
        self.stretches: list[Stretch] = [corpus.stretches[index] for index in chosen]
        self.folder = folder
        self._metrics = self._installed_metrics()

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(f"m2l: {text}", file=sys.stderr)

    def _installed_metrics(self) -> list[Callable[..., dict[str, Any]]]:
        """The functions of `GROUP`; without any, or without what one of them imports, a line says so."""
        points = list(entry_points(group=GROUP))
        if not points:
            self._say(
                f"validation: SI-SDR alone, since no installed package has entry points in {GROUP!r} "
                "(pip install -e . declares those of this one)"
            )
        found = []
        for point in points:
            try:
                found.append(point.load())
            except (ImportError, AttributeError) as error:
                self._say(f"validation: {point.name} ({point.value}) is left out: {error}")
        return found

    def __call__(self, model: Music2Latent, step: int) -> dict[str, float]:
        """Mean SI-SDR in dB over the clips, and what the entry points of `GROUP` add, under `validation_…` names.

        `validation_unreadable` counts clips that could not be read, if any; if none could, it is the only number.
        """
        (self.folder / "original").mkdir(parents=True, exist_ok=True)
        (self.folder / f"step-{step:08d}").mkdir(exist_ok=True)
        originals, results, rates, scores = [], [], set(), []
        for index, part in enumerate(self.stretches):
            length = min(part.stop - part.start, round(SECONDS * part.sample_rate))
            try:
                audio, rate = read_audio(part.path, (part.start + part.stop - length) // 2, length)
            except (AudioError, OSError) as error:
                self._say(f"step {step}: validation leaves out {part.path}: {error}")
                continue
            mono = audio.mean(0)
            reconstructed = model.reconstruct(mono, rate, seed=index)
            # The file's own name may be as long as the file system allows.
            stem = os.fsencode(Path(part.path).stem)[:200].decode(errors="ignore")
            name = f"{index:02d}-{stem}.wav"
            for kind, samples in (("original", mono), (f"step-{step:08d}", reconstructed)):
                write_audio(self.folder / kind / name, samples[None], rate, subtype="PCM_16")
            originals.append(mono)
            results.append(reconstructed)
            rates.add(rate)
            scores.append(si_sdr(reconstructed, mono))
        unreadable = len(self.stretches) - len(scores)
        facts: dict[str, float] = {"validation_unreadable": unreadable} if unreadable else {}
        if scores:
            facts["validation_si_sdr"] = float(np.mean(scores))
        if len(rates) == 1:
            rate = rates.pop()
            for metric in self._metrics:
                for name, value in metric(originals, results, rate).items():
                    facts[f"validation_{name}"] = value
        return facts


def si_sdr(preds: np.ndarray, target: np.ndarray) -> float:
    """Scale-invariant SDR in dB of (samples,), means removed; for the log (the benchmark has the full metric).

    From -100 dB, which a silent or constant output has, to 100: the range of the benchmark's tables.
    """
    preds, target = _centered(preds), _centered(target)
    tiny = np.finfo(np.float64).eps
    if not preds.any() and target.any():
        return -100.0
    projection = (preds @ target + tiny) / (target @ target + tiny) * target
    error = preds - projection
    ratio = 10 * np.log10((projection @ projection + tiny) / (error @ error + tiny))
    return float(np.clip(ratio, -100.0, 100.0))


def _centered(x: np.ndarray) -> np.ndarray:
    """Less its mean, in float64; zeros if no more than rounding would be left."""
    x = x.astype(np.float64)
    rest = x - x.mean()
    return rest if np.abs(rest).max(initial=0.0) > 1e-12 * np.abs(x).max(initial=0.0) else np.zeros_like(rest)
