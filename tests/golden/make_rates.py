"""Regenerates `benchmarks/status/rates.json`: seconds of one core per second of audio, for the paper suite's dry run.

    PYTHONPATH=.:tests python tests/golden/make_rates.py

Systems without weights on this machine run with random ones of full size, which take as long. A single clip of 10 s
is measured once warm, on one thread. What a rate is of: a stage and a name, as in a store's own record.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from synthetic_weights import write_clap, write_vggish

SECONDS = 10.0
SYSTEMS = (
    "musika", "mousai-v2", "mousai-v3", "dac-44khz", "codicodec", "stable-audio-vae", "same-s", "same-l",
    "kvae-audio", "encodec-48khz", "mimi",
)  # fmt: skip
PLAIN = ("identity", "opus-96k", "opus-16k", "mel-griffinlim", "music2latent-mini")
METRICS = (
    "si_sdr", "visqol", "fad:clap-630k-audioset-best@file", "fad:clap-music_audioset_epoch_15_esc_90.14@file",
    "fad:vggish", "fad_debiased:vggish", "fad:musicnn-msd@3s", "fad_inf:vggish", "kad:vggish", "kad_paired:vggish",
)  # fmt: skip


def music(rate: int, channels: int = 2) -> np.ndarray:
    from benchmarks.datasets import create_dataset
    from m2l.audio import fit_length, resample

    audio, found = create_dataset("synthetic", size=1, seconds=SECONDS).clips()[0].load()
    audio = resample(np.broadcast_to(audio[:1], (channels, audio.shape[1])).copy(), found, rate)
    return fit_length(audio, round(SECONDS * rate))


def rate_of(call: Callable[[], Any], warm: Callable[[], Any] | None = None) -> float:
    """CPU seconds per second of audio."""
    (warm or call)()
    began = time.process_time()
    call()
    return float(f"{(time.process_time() - began) / SECONDS:.3g}")


def systems() -> dict[str, dict[str, float]]:
    """Measured on two channels; a system that codes channels one by one takes half of it for a mono clip."""
    from benchmarks.autoencoders import create_autoencoder
    from benchmarks.autoencoders.music2latent import RandomInit
    from benchmarks.evaluation.systems import STEREO

    audio, mono = music(48_000), music(48_000, 1)
    reconstruct, features = {}, {}

    def add(label: str, system: Any, **options: Any) -> None:
        found = rate_of(
            lambda: system.reconstruct(audio, 48_000, **options), lambda: system.reconstruct(audio[:, :96_000], 48_000)
        )
        reconstruct[label + STEREO] = found
        reconstruct[label] = float(f"{found / (2 if system.spec.channels == 'per_channel' else 1):.3g}")
        print(label, found, file=sys.stderr, flush=True)

    for name in SYSTEMS:
        system: Any = create_autoencoder(name, random_seed=0)
        add(name, system)
        features[name] = rate_of(
            lambda s=system: s.features(mono, 48_000), lambda s=system: s.features(mono[:, :96_000], 48_000)
        )
    paper: Any = RandomInit("paper")
    for steps in range(1, 6):
        add("music2latent" if steps == 1 else f"music2latent@{steps}", paper, n_steps=steps)
    # The rows of the paper's Table 3 differ from the model in layers that cost little.
    for row, view in itertools.product(("base", "attention", "scaling"), ("", STEREO)):
        reconstruct[f"music2latent:table3-{row}{view}"] = reconstruct[f"music2latent{view}"]
    return {"reconstruct": reconstruct, "features": features}


def representations() -> dict[str, float]:
    from transformers import HubertModel

    from probes.representations import create_representation
    from probes.representations.clmr import SampleCNN
    from probes.representations.mert import mert_config
    from probes.representations.music2latent import random_init

    made: dict[str, Any] = {
        "music2latent": random_init("paper"),
        "music2latent-random": random_init(),
        **{name: create_representation(name) for name in ("music2latent-mini", "musicnn-msd", "handcrafted")},
    }
    audio = music(44_100)
    found = {}
    for name, representation in made.items():
        found[name] = rate_of(lambda r=representation: r.extract(audio, 44_100))
    with torch.inference_mode():
        clmr, mert = SampleCNN().eval(), HubertModel(mert_config()).eval()
        windows = torch.from_numpy(music(22_050, 1)[0][: 59_049 * 3].reshape(3, 59_049))
        found["clmr"] = rate_of(lambda: clmr(windows))
        wave = torch.from_numpy(music(24_000, 1))
        found["mert-v1-95m"] = rate_of(lambda: mert(wave, output_hidden_states=True))
    return found


def harness(work: Path) -> dict[str, dict[str, float]]:
    """Loading, codecs, metrics, embedders and aggregates: rates that a small run leaves in its store."""
    from benchmarks.cli.main import main
    from benchmarks.store.store import Store

    clips = work / "clips"
    clips.mkdir()
    for index in range(4):
        soundfile.write(clips / f"{index}.wav", np.roll(music(48_000), index * 1000, 1).T, 48_000)
    suite = work / "rates.toml"
    suite.write_text(
        f'[data]\ndataset = "folder"\nunit_clips = 4\n[data.options]\npath = "{clips}"\n'
        f"[table2]\nsystems = {json.dumps(PLAIN)}\nmetrics = {json.dumps(METRICS)}\n"
    )
    options = ["--suite", str(suite), "--executor", "serial", "--store", str(work / "store")]
    assert main(["tables", *options, "--results", str(work / "results")]) == 0
    found: dict[str, dict[str, float]] = {}
    for (stage, name), rate in Store(work / "store").rates().items():
        # Reading WAV files of 10 s at 48 kHz is what MusicCaps asks for.
        name = "musiccaps" if stage == "load" else name
        found.setdefault(stage, {})[name] = float(f"{rate:.3g}")
    return found


def make() -> dict[str, Any]:
    from benchmarks.store.processor import processor
    from benchmarks.weights.table import WEIGHTS, WeightFile

    torch.set_num_threads(1)
    for name, source in WEIGHTS.items():  # synthetic weights have other digests
        if source.kind != "wheel":
            WEIGHTS[name] = replace(source, files=tuple(WeightFile(file.path) for file in source.files))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["M2L_CACHE"] = str(work / "cache")
        weights = work / "cache" / "weights"
        for stem, tower in (("630k-audioset-best", "HTSAT-tiny"), ("music_audioset_epoch_15_esc_90.14", "HTSAT-base")):
            (weights / f"clap-{stem}").mkdir(parents=True)
            write_clap(weights / f"clap-{stem}" / f"{stem}.pt", tower)
        (weights / "vggish").mkdir()
        write_vggish(weights / "vggish" / "vggish-10086976.pth")
        stages = harness(work)
        for stage, rates in systems().items():
            stages[stage] = {**stages.get(stage, {}), **rates}
        stages["features"] |= representations()
    return {"machine": f"{processor()['model']}, one thread", "stages": stages}


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "benchmarks" / "status" / "rates.json"
    path.write_text(json.dumps(make(), indent=2, sort_keys=True) + "\n")
