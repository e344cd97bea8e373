"""Ours against the published `music2latent` wheel: encode and one-step decode, same weights, same noise.

Each contestant has its own process, so that neither profits from the other's warm caches or suffers from its memory;
the parent runs them in turns. The wheel's inference code is unchanged; only its constructor, which downloads, is
bypassed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.timing import Contest, Timing
from m2l import EncoderDecoder, Music2Latent
from m2l.io.published import key_map

RIVAL = "music2latent"


def run(
    *, seconds: float, repeats: int, threads: int, device: str, batch: int, compile: bool, weights: Path | None
) -> Contest:
    """The contest.

    Args:
        seconds: length of the audio.
        repeats: timed runs of each contestant.
        threads: CPU threads of each contestant.
        device: "cpu" or "cuda".
        batch: channels in the audio.
        compile: whether ours also races through `torch.compile`.
        weights: checkpoint in the published format; random weights by default.

    Raises:
        ContestantError: the rival is not installed, or a contestant's process died.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "weights": str(weights or _random_weights(Path(folder) / "music2latent.pt")),
            "seconds": seconds,
            "threads": threads,
            "device": device,
            "batch": batch,
        }
        kinds = [RIVAL, "float32", "bfloat16"] + (["bfloat16+compile"] if compile else [])
        contestants = {kind: _Contestant({**job, "kind": kind}) for kind in kinds}
        title = f"Music2Latent, {seconds:g} s x {batch} channel(s), {device}, {threads} threads"
        try:
            return _race(contestants, title, repeats)
        finally:
            for contestant in contestants.values():
                contestant.close()


def profile(*, seconds: float, threads: int, device: str, batch: int, weights: Path | None) -> str:
    """Where ours spends its time, as a table of operators; arguments as for `run`."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    with tempfile.TemporaryDirectory() as folder:
        job = {
            "weights": str(weights or _random_weights(Path(folder) / "music2latent.pt")),
            "seconds": seconds,
            "threads": threads,
            "device": device,
            "batch": batch,
            "kind": "float32",
        }
        encode, decode, wait = _load(job)
    audio = _signal(job)
    decode(encode(audio))
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    with profiling(activities=activities) as profiler, torch.no_grad():
        decode(encode(audio))
        wait()
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=45)
    return str(table)


def _race(contestants: dict[str, _Contestant], title: str, repeats: int) -> Contest:
    seconds: dict[str, dict[str, list[float]]] = {}
    for kind, contestant in contestants.items():
        print(f"warming up {kind} …", file=sys.stderr)
        contestant.run()
        seconds[kind] = {"encode": [], "decode": [], "both": []}
    for repeat in range(repeats):
        for kind, contestant in contestants.items():
            encode, decode = contestant.run()
            print(f"run {repeat + 1}: {kind} encode {encode:.2f} s, decode {decode:.2f} s", file=sys.stderr)
            for part, value in (("encode", encode), ("decode", decode), ("both", encode + decode)):
                seconds[kind][part].append(value)

    reference_latents, reference_audio = contestants[RIVAL].results()
    contest = Contest(title, "wall")
    for kind, contestant in contestants.items():
        if kind == RIVAL:
            continue
        latents, audio = contestant.results()
        same_latents = contestant.decode(reference_latents)
        for part in ("encode", "decode", "both"):
            errors = {}
            if part != "decode":
                errors["latents_error"] = _relative(latents, reference_latents)
            if part == "decode":
                errors["output_error_same_latents"] = _relative(same_latents, reference_audio)
            if part == "both":
                errors["output_error"] = _relative(audio, reference_audio)
            contest.add(
                part,
                Timing(f"m2l {kind}", tuple(seconds[kind][part])),
                Timing(RIVAL, tuple(seconds[RIVAL][part])),
                **errors,
            )
    contest.notes.append(
        "Errors are relative (Frobenius) to the wheel in float32; the noise is the same for all. `--profile` shows"
        " where our time goes."
    )
    return contest


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _random_weights(path: Path) -> Path:
    """The paper's architecture with random weights, in the published format, none of them zero."""
    import torch

    model = Music2Latent.from_config("paper", seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            # Layers that start at zero would hide the layers behind them; elsewhere the change is small.
            spread = 0.5 * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.05
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
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
    audio = _signal(job)
    latents = sound = None
    while True:
        request, *values = pipe.recv()
        if request == "decode":
            pipe.send(np.asarray(decode(values[0])))
        elif request == "results":
            pipe.send((np.asarray(latents), np.asarray(sound)))
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

    dtype, _, compiled = job["kind"].partition("+")
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
