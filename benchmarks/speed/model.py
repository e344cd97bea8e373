"""Ours against the published `music2latent` wheel: encode and one-step decode, same weights, same noise.

The wheel has the paper's architecture only. Other presets race against the same layers as plain torch computes them.
How near both are to this machine's limit is said by the share of its own rate of convolutions.

Each contestant has its own process, so that neither profits from the other's warm caches or suffers from its memory;
the parent runs them in turns. The wheel's inference code is unchanged; only its constructor, which downloads, is
bypassed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.speed.machine import Rates, count_flops, measure_rates
from benchmarks.speed.timing import Contest, Timing
from m2l import EncoderDecoder, Music2Latent
from m2l.io.published import key_map
from m2l.kernels import fused, steps, winograd

RIVAL = "music2latent"
PLAIN = "plain torch"
#: Passes that numba compiles: torch's profiler sees none of them by itself.
PASSES = [
    *((fused, name) for name in ("normalize", "add", "sums")),
    *((winograd, name) for name in ("_to_points", "_from_points")),
]
#: Rows of a profile.
_ROWS = 15


def run(
    *,
    preset: str,
    seconds: float,
    repeats: int,
    threads: int,
    device: str,
    batch: int,
    compile: bool,
    precisions: Sequence[str],
    weights: Path | None,
) -> Contest:
    """The contest.

    Args:
        preset: architecture; the rival of any but "paper" is plain torch.
        seconds: length of the audio.
        repeats: timed runs of each contestant.
        threads: CPU threads of each contestant.
        device: "cpu" or "cuda".
        batch: channels in the audio.
        compile: whether ours also races through `torch.compile`, in the last of `precisions`.
        precisions: of ours.
        weights: checkpoint of that architecture, for "paper" in the published format; random weights by default.

    Raises:
        ContestantError: the rival is not installed, or a contestant's process died.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "weights": str(weights or _random_weights(Path(folder), preset)),
            "seconds": seconds,
            "threads": threads,
            "device": device,
            "batch": batch,
        }
        rival = RIVAL if preset == "paper" else PLAIN
        kinds = [rival, *precisions] + ([f"{precisions[-1]}+compile"] if compile else [])
        contestants = {kind: _Contestant({**job, "kind": kind}) for kind in kinds}
        title = f"Music2Latent ({preset}), {seconds:g} s x {batch} channel(s), {device}, {threads} threads"
        try:
            return _race(contestants, rival, title, repeats)
        finally:
            for contestant in contestants.values():
                contestant.close()


def profile(*, preset: str, seconds: float, threads: int, device: str, batch: int, weights: Path | None) -> str:
    """Where ours spends its time, by operator and compiled pass, the costly first; arguments as for `run`."""
    import torch
    from torch.profiler import ProfilerActivity, record_function
    from torch.profiler import profile as profiling

    with tempfile.TemporaryDirectory() as folder:
        job = {
            "weights": str(weights or _random_weights(Path(folder), preset)),
            "seconds": seconds,
            "threads": threads,
            "device": device,
            "batch": batch,
            "kind": "float32",
        }
        encode, decode, wait = _load(job)
    audio = _signal(job)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    with contextlib.ExitStack() as stack:
        for module, name in PASSES:
            recorded = record_function(name.lstrip("_"))(getattr(module, name))
            stack.enter_context(patch.object(module, name, recorded))
        decode(encode(audio))
        with profiling(activities=activities) as profiler, torch.no_grad():
            decode(encode(audio))
            wait()
    own = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    averages = sorted(profiler.key_averages(), key=lambda average: getattr(average, own), reverse=True)
    total = sum(getattr(average, own) for average in averages)
    rows = [f"{'own time':>10} {'share':>6} {'calls':>6}  operator or compiled pass"]
    for average in averages[:_ROWS]:
        microseconds = getattr(average, own)
        rows.append(f"{microseconds / 1e3:>7.1f} ms {microseconds / total:>6.1%} {average.count:>6}  {average.key}")
    return "\n".join(rows)


def _race(contestants: dict[str, _Contestant], rival: str, title: str, repeats: int) -> Contest:
    # Warm up, and measure what the machine can do in the process, precision and number of threads of each.
    seconds: dict[str, dict[str, list[float]]] = {}
    rates: dict[str, Rates] = {}
    for kind, contestant in contestants.items():
        print(f"warming up {kind} …", file=sys.stderr)
        contestant.run()
        rates[kind] = contestant.rates()
        seconds[kind] = {"encode": [], "decode": [], "both": []}
    flops = dict(zip(("encode", "decode"), contestants[rival].flops(), strict=True))
    flops["both"] = sum(flops.values())
    for repeat in range(repeats):
        for kind, contestant in contestants.items():
            encode, decode = contestant.run()
            print(f"run {repeat + 1}: {kind} encode {encode:.2f} s, decode {decode:.2f} s", file=sys.stderr)
            for part, value in (("encode", encode), ("decode", decode), ("both", encode + decode)):
                seconds[kind][part].append(value)

    reference_latents, reference_audio = contestants[rival].results()
    contest = Contest(title, "wall")
    for kind, contestant in contestants.items():
        if kind == rival:
            continue
        latents, audio = contestant.results()
        same_latents = contestant.decode(reference_latents)
        for part in ("encode", "decode", "both"):
            ours = Timing(f"m2l {kind}", tuple(seconds[kind][part]))
            found = {"share": flops[part] / ours.median / rates[kind].convolutions}
            if part != "decode":
                found["latents_error"] = _relative(latents, reference_latents)
            if part == "decode":
                found["output_error_same_latents"] = _relative(same_latents, reference_audio)
            if part == "both":
                found["output_error"] = _relative(audio, reference_audio)
            contest.add(part, ours, Timing(rival, tuple(seconds[rival][part])), **found)
    contest.notes.append(
        "share: of the rate at which this machine convolves in that precision, measured in the same process: "
        + "; ".join(
            f"{kind} {rate.convolutions:.0f} GFLOP/s (products {rate.products:.0f}, memory {rate.memory:.0f} GB/s)"
            for kind, rate in rates.items()
            if kind != rival
        )
        + f". The network's convolutions and matrix products come to {flops['encode']:.3g} GFLOP (encode) and"
        f" {flops['decode']:.3g} GFLOP (decode), as the rival computes them."
    )
    contest.notes.append(
        "Errors are relative (Frobenius) to the rival in float32; the noise is the same for all. `--profile` shows"
        " where our time goes."
    )
    return contest


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _random_weights(folder: Path, preset: str) -> Path:
    """A preset's architecture with random weights, none of them zero; the paper's in the published format."""
    import torch

    model = Music2Latent.from_config(preset, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            # Layers that start at zero would hide the layers behind them; elsewhere the change is small.
            spread = 0.5 * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.05
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    if preset != "paper":
        model.save_pretrained(folder)
        return folder
    path = folder / "music2latent.pt"
    state = model.state_dict()
    torch.save({"gen_state_dict": {theirs: state[ours] for theirs, ours in key_map(model.config).items()}}, path)
    return path


class ContestantError(OSError):
    """A side of the contest that cannot run here."""


class _Contestant:
    """A child process with one implementation loaded, doing one call at a time."""

    def __init__(self, job: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        os.environ["OMP_NUM_THREADS"] = str(job["threads"])
        self.process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()

    def _ask(self, *request: Any) -> Any:
        self.pipe.send(request)
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise ContestantError("a contestant's process died (out of memory?)") from None
        if isinstance(answer, str):
            raise ContestantError(answer)
        return answer

    def run(self) -> tuple[float, float]:
        """Seconds of one encode and one decode."""
        return self._ask("run")

    def results(self) -> tuple[np.ndarray, np.ndarray]:
        """Latents and audio of the last run."""
        return self._ask("results")

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Audio of these latents."""
        return self._ask("decode", latents)

    def flops(self) -> tuple[float, float]:
        """GFLOP of one encode and one decode."""
        return self._ask("flops")

    def rates(self) -> Rates:
        """What the machine can do in this contestant's precision."""
        return self._ask("rates")

    def close(self) -> None:
        self.process.terminate()
        self.process.join()


def _serve(pipe: Any, job: dict[str, Any]) -> None:
    try:
        encode, decode, wait = _load(job)
    except ImportError as error:
        pipe.recv()
        pipe.send(f"{error}: the rival is not installed (make rivals)")
        return
    import torch

    audio = _signal(job)
    latents = sound = None
    while True:
        request, *values = pipe.recv()
        if request == "decode":
            pipe.send(np.asarray(decode(values[0])))
        elif request == "results":
            pipe.send((np.asarray(latents), np.asarray(sound)))
        elif request == "flops":
            pipe.send((count_flops(partial(encode, audio)), count_flops(partial(decode, latents))))
        elif request == "rates":
            dtypes = [torch.float32] + [torch.bfloat16] * job["kind"].startswith("bfloat16")
            # A processor without bfloat16 computes in float32.
            pipe.send(
                max((measure_rates(job["device"], dtype) for dtype in dtypes), key=lambda rate: rate.convolutions)
            )
        else:
            begin = time.perf_counter()
            latents = encode(audio)
            wait()
            middle = time.perf_counter()
            sound = decode(latents)
            wait()
            end = time.perf_counter()
            latents = latents.cpu().numpy()
            pipe.send((middle - begin, end - middle))


def _load(job: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[], None]]:
    """Encode, decode and synchronize of one contestant."""
    import torch

    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)

    if job["kind"] == RIVAL:
        from music2latent import inference

        rival = inference.EncoderDecoder.__new__(inference.EncoderDecoder)
        rival.device = device
        rival.gen = inference.UNet().to(device).eval()
        state = torch.load(job["weights"], map_location=device, weights_only=True)["gen_state_dict"]
        rival.gen.load_state_dict(state)

        def their_decode(latents: Any) -> Any:
            torch.manual_seed(0)  # its noise is torch's global generator
            return rival.decode(latents)

        return rival.encode, their_decode, wait

    plain = job["kind"] == PLAIN
    if plain:
        steps.WORTHWHILE_BYTES = sys.maxsize  # nothing is large enough for tiles
    dtype, _, compiled = ("float32" if plain else job["kind"]).partition("+")
    ours = EncoderDecoder(job["weights"], device=device, dtype=dtype)
    if compiled:
        ours.gen.encoder.compile()
        ours.gen.decoder.compile()
        ours.gen.unet.compile()

    def our_decode(latents: Any) -> Any:
        return ours.decode(latents, generator=torch.Generator().manual_seed(0))

    return ours.encode, our_decode, wait


def _signal(job: dict[str, Any]) -> np.ndarray:
    rng = np.random.default_rng(0)
    time_axis = np.arange(int(44_100 * job["seconds"])) / 44_100
    tones = [np.sin(2 * np.pi * f * time_axis) * np.exp(-2 * (time_axis % 1)) for f in (110, 277, 440, 1318)]
    audio = 0.1 * np.sum(tones, 0) + 0.01 * rng.standard_normal((job["batch"], len(time_axis)))
    return audio.astype(np.float32)
