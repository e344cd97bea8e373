"""`m2l-bench speed`: the contests of `benchmarks.speed`, one command each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.cli.options import Json
from benchmarks.errors import OK
from benchmarks.registry import load_target
from m2l.cli.plain import Whole, new_app

app = new_app(
    "speed",
    "Race an implementation against its rival, side by side in one run.\n\n"
    "Each contest prints median times, their ratio, and the error of one result against the other.",
)

Clock = Annotated[Literal["wall", "cpu"], Parameter(help="clock to time with")]
Repeats = Annotated[Whole, Parameter(help="timed turns of each side")]
Several = Parameter(consume_multiple=True, metavar="N")


@app.command
def model(
    *,
    preset: str = "paper",
    seconds: float = 10.0,
    repeats: Repeats = 3,
    threads: Whole = 2,
    device: str = "cpu",
    batch: Whole = 1,
    compile: bool = False,
    precisions: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="NAME")] = ("float32", "bfloat16"),
    checkpoint: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    profile: bool = False,
    json: Json = False,
) -> int:
    """Ours against the published music2latent wheel: encode and one-step decode, same weights, same noise.

    Args:
        preset: architecture; any but paper races against plain torch
        seconds: length of the audio
        threads: CPU threads of each side
        device: cpu or cuda
        batch: channels in the audio
        compile: add ours through torch.compile
        precisions: of ours
        checkpoint: weights of that architecture, for paper in the published format (default: random weights)
        profile: show where ours spends its time instead
    """
    shared = {
        "preset": preset,
        "seconds": seconds,
        "threads": threads,
        "device": device,
        "batch": batch,
        "weights": checkpoint,
    }
    if profile:
        print(load_target("benchmarks.speed.model:profile")(**shared))
        return OK
    options = {"repeats": repeats, "compile": compile, "precisions": precisions}
    return _race("benchmarks.speed.model:run", json, **options, **shared)


@app.command
def memory(
    *,
    presets: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="NAME")] = ("mini", "paper"),
    seconds: Annotated[tuple[float, ...], Parameter(consume_multiple=True, metavar="S")] = (10.0, 60.0, 3600.0),
    precisions: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="NAME")] = ("float32", "bfloat16"),
    threads: Whole = 2,
    json: Json = False,
) -> int:
    """Peak memory of decoding a file of latents into an audio file, a process each.

    Args:
        presets: architectures, with random weights
        seconds: lengths of the audio
        precisions: of the network
        threads: CPU threads
    """
    return _race(
        "benchmarks.speed.memory:run", json, presets=presets, seconds=seconds, precisions=precisions, threads=threads
    )


@app.command
def visqol(
    *,
    repeats: Repeats = 5,
    oracle: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    profile: bool = False,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    copies: Whole = 1,
    json: Json = False,
) -> int:
    """Our ViSQOL against visqol-python[accel] on the same pairs: one thread, process CPU time, in turns.

    Args:
        oracle: folder with Google's pairs, visqol/expected.csv (default: M2L_ORACLE, else synthetic pairs)
        profile: only show where our own time goes, by stage
        device: also run the torch back end on this device: pairs per second, error
        copies: with --device: score the pairs so many times
    """
    found = os.environ.get("M2L_ORACLE")
    oracle = oracle or (Path(found) if found else None)
    if profile:
        print(load_target("benchmarks.speed.visqol:profile")(oracle=oracle))
        return OK
    return _race("benchmarks.speed.visqol:run", json, repeats=repeats, oracle=oracle, device=device, copies=copies)


@app.command
def frechet(
    *,
    dims: Annotated[tuple[Whole, ...], Several] = (128, 512),
    conditions: Annotated[tuple[float, ...], Parameter(consume_multiple=True, metavar="X")] = (1e8,),
    repeats: Repeats = 7,
    clock: Clock = "wall",
    json: Json = False,
) -> int:
    """Our Fréchet distance against the usual ones by matrix square root.

    Errors are against a distance known in closed form. Condition 1e8 is that of real CLAP embeddings.

    Args:
        dims: embedding dimensions
        conditions: condition numbers of the covariance
    """
    return _race("benchmarks.speed.frechet:run", json, dims=dims, conditions=conditions, repeats=repeats, clock=clock)


@app.command(name="si-sdr")
def si_sdr(
    *,
    seconds: float = 10.0,
    snr: Annotated[tuple[float, ...], Parameter(consume_multiple=True, metavar="DB")] = (20.0, 80.0),
    repeats: Repeats = 15,
    clock: Clock = "wall",
    json: Json = False,
) -> int:
    """Our float64 SI-SDR against torchmetrics' formula in float32; errors are against 80-bit floats.

    Args:
        seconds: length of the clip at 44.1 kHz
        snr: signal-to-noise ratios in dB, one case each
    """
    return _race("benchmarks.speed.si_sdr:run", json, seconds=seconds, snr=snr, repeats=repeats, clock=clock)


@app.command
def probe(
    *,
    items: Whole = 15000,
    dim: Whole = 8192,
    epochs: Whole = 3,
    batch_sizes: Annotated[tuple[Whole, ...], Several] = (200,),
    repeats: Repeats = 1,
    clock: Clock = "wall",
    quick: bool = False,
    json: Json = False,
) -> int:
    """Five seeds of the Table 1 probe in one pass, against five fits by scikit-learn.

    The default size is MagnaTagATune's: 15,000 clips, 8,192 features, 50 tags. Both sides train the same network on
    the same float32 features for the same epochs; the macro ROC-AUC on held-out items says what bfloat16 costs.

    Args:
        items: training items
        dim: features
        epochs: epochs of every fit
        batch_sizes: items per step of both sides, one race each
        quick: a small size: 2000 x 1024
    """
    if quick:
        items, dim = 2000, 1024
    return _race(
        "probes.speed:run",
        json,
        items=items,
        dim=dim,
        epochs=epochs,
        batch_sizes=batch_sizes,
        repeats=repeats,
        clock=clock,
    )


@app.command
def train(
    *,
    presets: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="NAME")] = (),
    batch_size: Whole | None = None,
    precision: Literal["float32", "bfloat16", "float16"] | None = None,
    compile: bool = False,
    device: str = "cpu",
    threads: Whole | None = None,
    repeats: Repeats = 5,
    at_step: Whole = 0,
    warmup: Whole = 1,
    clock: Clock = "wall",
    profile: Annotated[Path | None, Parameter(metavar="FILE.svg")] = None,
    json: Json = False,
) -> int:
    """Our optimizer step against a plain eager float32 step of the same model.

    Both sides start from the same weights and take the same crops, noise and times, in turns; the losses say what
    our precision costs.

    Args:
        presets: models (default: mini table3-mini-scaling; on a GPU paper)
        batch_size: crops per step (default: the preset's recipe)
        precision: precision of ours (default: the recipe's)
        compile: ours through torch.compile
        device: cpu or cuda
        threads: CPU threads of both sides (default: torch's choice)
        at_step: step of the recipe's schedule: the smaller Delta t is, the more often the teacher is asked
        warmup: steps before the timed ones
        profile: also draw where a step's time goes, one file per preset
    """
    return _race(
        "benchmarks.speed.train:run",
        json,
        presets=presets,
        batch_size=batch_size,
        precision=precision,
        compile=compile,
        device=device,
        threads=threads,
        repeats=repeats,
        at_step=at_step,
        warmup=warmup,
        clock=clock,
        profile=profile,
    )


def _race(target: str, json: bool, **options: Any) -> int:
    load_target(target)(**options).show(json)
    return OK
