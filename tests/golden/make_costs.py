"""Regenerates `benchmarks/paper/costs.json`, from which `m2l-bench paper --dry-run` takes hours and gigabytes.

    PYTHONPATH=.:tests python tests/golden/make_costs.py [PART...]

`reconstruct`, `features`, `embed`: floating-point operations per second of audio. Networks of full size with random
weights do one clip while torch's `FlopCounterMode` counts convolutions, matrix products and attention (a multiplication
and an addition are two); transforms and everything elementwise are not counted. `dim`: dimensions of features. `probe`:
seconds of one core that the training of a probe takes, per 24 items (a unit of features) and dimension: five seeds of
100 epochs, which is the most. `bytes`: what a store holds per second of audio, by stage. PART is one of
`embedders`, `representations`, `systems`, `probe`, `bytes`, or the name of a system.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_rates import SYSTEMS, music
from synthetic_weights import write_clap, write_vggish
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertModel

from benchmarks.autoencoders import AUTOENCODERS, create_autoencoder
from benchmarks.autoencoders.music2latent import RandomInit
from benchmarks.embedders import create_embedder
from benchmarks.evaluation.systems import STEREO
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions, RunReport, waves_of
from benchmarks.status.dry_run import plan_suite
from benchmarks.store.store import Store
from benchmarks.suite import parse_suite
from benchmarks.tables.build import build_part
from benchmarks.weights.table import CLAP_TOWERS
from probes.features import CLIPS_PER_UNIT
from probes.representations.clmr import SampleCNN
from probes.representations.mert import mert_config
from probes.speed import fit_ours, make_data

#: One piece of Moûsai's, which pads to it; the others are counted on as much.
SECONDS = (1 << 18) / 48_000
#: Systems whose networks look at their own numbers: they run, on a second.
NEED_NUMBERS = ("codicodec", "encodec-48khz", "mimi")
#: Music2Latent's rows and their configurations.
PRESETS = {"music2latent": "paper", "music2latent-mini": "mini"}
PRESETS |= {f"music2latent:table3-{row}": f"table3-{row}" for row in ("base", "attention")}
PATH = Path(__file__).parents[2] / "benchmarks" / "paper" / "costs.json"
EMBEDDERS = {
    "clap-630k-audioset-best@file": 10.0, "clap-music_audioset_epoch_15_esc_90.14@file": 10.0,
    "vggish": 10.0, "musicnn-msd@3s": 3.0,
}  # fmt: skip


def count(call: Callable[[], Any], seconds: float) -> float:
    """Operations per second of audio."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call()
    return float(f"{counter.get_total_flops() / seconds:.3g}")


def plain(model: torch.nn.Module) -> None:
    """Take weight normalization away, which the counter cannot look through and which costs next to nothing."""
    for module in model.modules():
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight")


def systems(wanted: set[str]) -> dict[str, dict[str, float]]:
    """Networks on torch's "meta" device, which computes nothing; Music2Latent's kernels want numbers: on one crop.

    Of a mono clip, and of a stereo one, which is two items of a system that codes channels one by one.
    """
    found: dict[str, dict[str, float]] = {"reconstruct": {}, "features": {}, "dim": {}}
    for name in SYSTEMS:
        if name in wanted:
            device, wanted_seconds = ("cpu", 1.0) if name in NEED_NUMBERS else ("meta", SECONDS)
            system: Any = create_autoencoder(name, random_seed=0, device=device)
            with torch.device(device):  # drawing random weights would take longer than all the rest
                plain(system.model)
            length = -(-round(wanted_seconds * system.sample_rate) // system.multiple) * system.multiple
            channels = 2 if system.channels == "stereo" else 1
            audio = torch.zeros(1, channels, length, device=device)
            seconds = length / system.sample_rate
            latents: dict[str, Any] = {}
            encoding = count(lambda s=system, a=audio, z=latents: z.update(s._encode(a)), seconds)
            steps = system.n_steps or 1
            decoding = count(lambda s=system, z=latents, n=steps: s._decode(z, torch.Generator(), n), seconds)
            kept: list[Any] = []
            found["features"][name] = count(lambda s=system, a=audio, k=kept: k.append(s._features(a)), seconds)
            found["dim"][name] = kept[0].shape[1]
            found["reconstruct"][name] = float(f"{encoding + decoding:.3g}")
            print(name, {stage: rates.get(name) for stage, rates in found.items()}, file=sys.stderr, flush=True)
    for name, preset in PRESETS.items():
        if name in wanted:
            model: Any = RandomInit(preset)
            audio = music(44_100, 1)[:, :34_304]
            seconds = audio.shape[1] / 44_100
            once = found["reconstruct"][name] = count(partial(model.reconstruct, audio, 44_100, n_steps=1), seconds)
            if name == "music2latent":  # every denoising step costs the same
                twice = count(partial(model.reconstruct, audio, 44_100, n_steps=2), seconds)
                for steps in range(2, 6):
                    found["reconstruct"][f"{name}@{steps}"] = float(f"{once + (steps - 1) * (twice - once):.3g}")
                found["reconstruct"][f"{name}:table3-scaling"] = once  # the last row is the paper's model
            if ":" not in name:
                found["features"][name] = count(partial(model.features, audio, 44_100), seconds)
                found["dim"][name] = model.features(audio, 44_100).shape[0]
            print(name, {stage: rates.get(name) for stage, rates in found.items()}, file=sys.stderr, flush=True)
    for name, operations in list(found["reconstruct"].items()):
        items = 1 if name in SYSTEMS and AUTOENCODERS.load(name).channels == "stereo" else 2
        found["reconstruct"][name + STEREO] = float(f"{items * operations:.3g}")
    return found


def embedders() -> dict[str, dict[str, float]]:
    """Embedders of Table 2."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in EMBEDDERS.items():
            path = Path(folder) / name
            if name == "vggish":
                write_vggish(path)
            elif name.startswith("clap-"):
                write_clap(path, CLAP_TOWERS[name.removeprefix("clap-").partition("@")[0]])
            embedder = create_embedder(name, weights=path if path.exists() else None, device="cpu")
            wave = music(embedder.sample_rate, 1)[0, : round(seconds * embedder.sample_rate)]
            found[name] = count(partial(embedder.embed, wave), seconds)
            print(name, found[name], file=sys.stderr, flush=True)
    return {"embed": found, "features": {"musicnn-msd": found["musicnn-msd@3s"]}, "dim": {"musicnn-msd": 200}}


def representations() -> dict[str, dict[str, float]]:
    """Representations of Table 1 that are neither autoencoders nor embedders."""
    with torch.device("meta"):
        clmr, mert = SampleCNN().eval(), HubertModel(mert_config()).eval()
        plain(mert)
        windows, wave = torch.zeros(1, 59_049), torch.zeros(1, 240_000)
    features = {"clmr": count(partial(clmr, windows), 59_049 / 22_050), "mert-v1-95m": count(partial(mert, wave), 10.0)}
    return {"features": features, "dim": {"clmr": 512, "mert-v1-95m": mert.config.hidden_size}}


def probe() -> dict[str, dict[str, float]]:
    """Training on 1,200 items of 2,048 features, two epochs."""
    items, dim, epochs = 1200, 2048, 2
    features, targets = make_data(items, dim, 50)
    for _ in range(2):
        began = time.process_time()
        fit_ours(features, targets, np.arange(items), epochs, 64, "fp32")
        seconds = time.process_time() - began
    each = seconds * 100 / epochs / dim / (items / CLIPS_PER_UNIT)
    return {"probe": {"seconds_per_unit_and_dim": float(f"{each:.3g}")}}


def stored() -> dict[str, dict[str, float]]:
    """Bytes per second of audio of the units of a small run, by stage."""
    suite = parse_suite(
        {
            "name": "bytes",
            "data": {"dataset": "synthetic", "options": {"size": 4, "seconds": 10.0}, "unit_clips": 4},
            "table2": {
                "systems": ["opus-96k", "mel-griffinlim"],
                "metrics": ["si_sdr", "visqol", "fad:musicnn-msd@3s"],
            },
            "table1": {"tasks": ["synthetic-pitch"], "representations": ["musicnn-msd"], "seeds": 1},
        }
    )
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store, options = Store(folder), RunOptions(limit=4, quiet=True)
        planned = plan_suite(suite, options, suite.tables, store).planned
        for name in suite.tables:
            build_part(name, suite, store, SerialExecutor(), options, RunReport())
        for unit in (unit for layer in waves_of(planned) for unit in layer if unit.amount > 0):
            found.setdefault(unit.stage, []).append(store.path(unit.key).stat().st_size / unit.amount)
    return {"bytes": {stage: float(f"{np.mean(sizes):.3g}") for stage, sizes in found.items()}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = set(sys.argv[1:]) or {"embedders", "representations", "systems", "probe", "bytes"}
    parts = {"embedders": embedders, "representations": representations, "probe": probe, "bytes": stored}
    made = [parts[name] for name in sorted(wanted & set(parts))]
    if rest := wanted - set(parts):
        every = (*PRESETS, *SYSTEMS)
        made += [partial(systems, {name}) for name in every if rest == {"systems"} or name in rest]
    for part in made:  # written one by one: all of it takes a while
        found = part()
        record = json.loads(PATH.read_text()) if PATH.exists() else {}
        for stage, rates in found.items():
            record.setdefault(stage, {}).update(rates)
        PATH.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
