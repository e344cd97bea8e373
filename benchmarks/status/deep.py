"""`doctor --deep NAME`: weights loaded strictly, run on a built-in clip, and a fingerprint of all of it.

The first person who has a published file sees at a glance whether our port of its network is right: what was found
stands beside what the literature leads one to expect, with its source. The text is Markdown, to be pasted into an
issue.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.datasets import create_dataset
from benchmarks.metrics.registry import parse_metric
from benchmarks.status.expectations import SEPARATES, Expectation, expectations
from benchmarks.status.subjects import Subject
from benchmarks.status.tensors import summary, tensors_of
from benchmarks.weights.find import find_weight, weight_source
from m2l.audio import resample
from m2l.io.digest import file_sha256
from m2l.io.torch_files import CheckpointError, first_line

#: The built-in clip: the synthetic suite's funk (saxophone, guitar, bass, drums) from its third second on.
CLIP, RATE, START = 5, 44100, 2
SECONDS, LONGEST = 3.0, 8.0
_METRICS = {"SI-SDR, dB": "si_sdr", "ViSQOL": "visqol"}
_SHOWN = 12


@dataclass(frozen=True)
class Row:
    """One quantity: what was found, what was expected and why, and whether both agree (None: nothing to compare)."""

    what: str
    found: Any
    expected: str = ""
    source: str = ""
    agrees: bool | None = None


def examine(subject: Subject, seconds: float, n_steps: int | None = None) -> dict[str, Any]:
    """The fingerprint of a system, embedder or representation.

    Args:
        subject: what is examined.
        seconds: length of the built-in clip.
        n_steps: denoising steps of a system that has such a thing; None for its usual number.

    Returns:
        JSON-ready: `rows` (what, found, expected, source, agrees), `tensors` (of the files, one line each), `error`
        (why the weights did not load; None), and what machine and versions this is.

    Raises:
        WeightsNotFoundError: the weights are not on this machine.
        ImportError: a package is missing.
    """
    name, kind, weights, path = subject.name, subject.kind, subject.weights, subject.path
    known = {} if subject.untrained else expectations(name, usual_clip=seconds == SECONDS)
    made = subject.make()
    rows, tensors, error = _files(weights, path)
    clip = built_in_clip(2, seconds)
    if error is None:
        try:
            rows += _autoencoder(made, clip, n_steps) if kind == "autoencoder" else _vectors(made, kind, clip)
        except CheckpointError as problem:
            error = str(problem)
    digest = hashlib.sha256(clip.tobytes()).hexdigest()
    return {
        "name": name,
        "kind": kind,
        "weights": weights,
        "untrained": subject.untrained,
        "m2l": version("m2l"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {subject.device}",
        "clip": f"{clip.shape[1]} samples of synthetic funk at {RATE} Hz, sha256 {digest[:16]}",
        "error": error,
        "rows": [asdict(_compared(row, known)) for row in rows],
        "tensors": tensors,
    }


def agrees(found: Mapping[str, Any]) -> bool:
    """Whether the weights loaded and nothing differs from what was expected."""
    return found["error"] is None and all(row["agrees"] is not False for row in found["rows"])


def describe(found: Mapping[str, Any]) -> str:
    """The fingerprint in Markdown."""
    lines = [
        f"### doctor --deep {found['name']} ({found['kind']}{', untrained' * found['untrained']})",
        "",
        f"m2l {found['m2l']}, torch {found['torch']}, Python {found['python']}, {found['machine']}; {found['clip']}",
        "",
    ]
    if found["error"]:
        lines += [f"**The weights do not load:** {found['error']}", ""]
    lines += ["| what | found | expected | by |  |", "| --- | --- | --- | --- | --- |"]
    for row in found["rows"]:
        verdict = {True: "ok", False: "**differs**", None: ""}[row["agrees"]]
        lines.append(f"| {row['what']} | {_text(row['found'])} | {row['expected']} | {row['source']} | {verdict} |")
    differing = sum(row["agrees"] is False for row in found["rows"])
    compared = sum(row["agrees"] is not None for row in found["rows"])
    lines += ["", f"{compared - differing} of {compared} quantities are as expected."]
    if tensors := found["tensors"]:
        shown = [*tensors[:_SHOWN], f"… and {len(tensors) - _SHOWN} more (--json lists all)"]
        lines += ["", "```", *(shown if len(tensors) > _SHOWN else tensors), "```"]
    return "\n".join(lines)


# ---- the files -----------------------------------------------------------------------------------------


def _files(weights: str | None, path: str | None) -> tuple[list[Row], list[str], str | None]:
    """Rows of the files of weights, all their tensors, and why one cannot be read."""
    if weights is None:
        return [], [], None
    source, place = weight_source(weights), find_weight(weights, path)
    rows = [
        Row("origin", f"{source.origin} ({source.license})"),
        Row("given", str(path) if path else "found by look-up"),
    ]
    tensors, entries, error = [], [], None
    for file in source.files:
        here = place / file.basename if place.is_dir() else place
        by = "" if file.size is None and file.sha256 is None else "table of weights"
        size = here.stat().st_size
        agree = None if file.size is None else size == file.size
        rows.append(Row(f"{file.basename}: bytes", size, f"{file.size or ''}", by if file.size else "", agree))
        digest = file_sha256(here)
        agree = None if file.sha256 is None else digest == file.sha256
        rows.append(Row(f"{file.basename}: sha256", digest, file.sha256 or "", by if file.sha256 else "", agree))
        try:
            held = tensors_of(here)
        except CheckpointError as problem:
            held, error = None, str(problem)
        if held is not None:
            entries += held
            prefix = f"{file.basename}: " if len(source.files) > 1 else ""
            tensors += [f"{prefix}{tensor}" for tensor in held]
    if entries:
        rows += [Row(_label("file", key), value) for key, value in summary(entries).items()]
    return rows, tensors, error


def _label(prefix: str, key: str) -> str:
    return f"{prefix} {key.replace('_', ' ')}"


# ---- what they compute ---------------------------------------------------------------------------------


def built_in_clip(channels: int, seconds: float) -> np.ndarray:
    """float32 (channels, samples) at 44.1 kHz, rendered here; the same everywhere."""
    audio, rate = create_dataset("synthetic").clips()[CLIP].load()
    return np.ascontiguousarray(audio[:channels, START * rate : round((START + seconds) * rate)])


def _autoencoder(system: Any, stereo: np.ndarray, n_steps: int | None) -> Iterator[Row]:
    """Rows of a system's network, latents and output."""
    clip = stereo if system.spec.channels == "stereo" else stereo[:1]
    yield from _network(system)
    started = time.perf_counter()
    latents = system.encode(clip, RATE)
    yield Row("encoding, seconds", time.perf_counter() - started)
    for name, value in _arrays(latents).items():
        yield from _statistics(f"latents {name}", value)
    if (bitrate := getattr(latents, "bitrate", None)) is not None:
        wanted = "" if system.spec.bitrate is None else f"{system.spec.bitrate:g}"
        yield Row("bits per second", bitrate, wanted, "the system's nominal rate" if wanted else "")
    started = time.perf_counter()
    output = system.decode(latents, length=clip.shape[1], sample_rate=RATE, seed=0, n_steps=n_steps)
    yield Row("decoding, seconds", time.perf_counter() - started)
    yield from _statistics("output", output)
    level = 20 * np.log10(max(_rms(output), 1e-12) / _rms(clip))
    yield Row("output: level against the clip, dB", float(level))
    for label, name in _METRICS.items():
        yield _score(label, name, output, clip)


def _score(label: str, name: str, output: np.ndarray, clip: np.ndarray) -> Row:
    metric: Any = parse_metric(name)
    try:
        score = metric.function(output, clip, RATE)
    except FileNotFoundError as error:  # ViSQOL's own weights
        return Row(label, first_line(error))
    value, reason = score if isinstance(score, tuple) else (score, None)
    return Row(label, reason if np.isnan(value) else float(value))


def _vectors(made: Any, kind: str, stereo: np.ndarray) -> Iterator[Row]:
    """Rows of an embedder's or a representation's network and vectors."""
    clip = stereo[:1]
    noise = np.random.default_rng(0).standard_normal(clip.shape).astype(np.float32) * np.float32(_rms(clip))
    if kind == "embedder":

        def vectors(audio: np.ndarray) -> np.ndarray:
            return np.asarray(made.embed(resample(audio, RATE, made.sample_rate, exact=False)[0]))
    else:

        def vectors(audio: np.ndarray) -> np.ndarray:
            return np.asarray(next(iter(made.extract(audio, RATE).values())))

    yield from _network(made)
    started = time.perf_counter()
    found = vectors(clip)
    yield Row("embedding, seconds", time.perf_counter() - started)
    yield from _statistics("embeddings", found)
    yield Row("embeddings: norm", float(np.linalg.norm(found, axis=1).mean()))
    near, far = _cosine(found, vectors(clip * np.float32(0.5))), _cosine(found, vectors(noise))
    yield Row("cosine with the clip at half its level", near)
    yield Row("cosine with white noise", far)
    wanted = f"{SEPARATES.low:g} or more"
    yield Row("the former less the latter", near - far, wanted, SEPARATES.source, near - far > SEPARATES.low)


def _network(made: Any) -> Iterator[Row]:
    """Rows of the loaded network; loading is what `made.model` does."""
    started = time.perf_counter()
    model = getattr(made, "model", None) or getattr(getattr(made, "embedder", None), "model", None)
    if model is None or not hasattr(model, "parameters"):
        return
    yield Row("loading, seconds", time.perf_counter() - started)
    count, total, square, broken, zero = 0, 0.0, 0.0, 0, 0
    for parameter in model.parameters():
        values = parameter.detach()
        count += values.numel()
        total += float(values.double().sum())
        square += float(values.norm()) ** 2
        broken += int((~values.isfinite()).sum())
        zero += int(not values.any())
    mean = total / max(count, 1)
    yield Row("parameters", count)
    yield Row("parameters: mean", mean)
    yield Row("parameters: deviation", max(square / max(count, 1) - mean**2, 0.0) ** 0.5)
    yield Row("parameters: not finite", broken, "0", "numbers", broken == 0)
    yield Row("parameters: tensors of zeros", zero)


def _statistics(name: str, value: np.ndarray) -> Iterator[Row]:
    yield Row(f"{name}: shape", "x".join(map(str, value.shape)))
    if np.issubdtype(value.dtype, np.integer):
        values, counts = np.unique(value, return_counts=True)
        yield Row(f"{name}: distinct", len(values))
        yield Row(f"{name}: share of the most frequent", float(counts.max() / value.size))
        return
    broken = int((~np.isfinite(value)).sum())
    yield Row(f"{name}: not finite", broken, "0", "numbers", broken == 0)
    yield Row(f"{name}: mean", float(value.mean(dtype=np.float64)))
    yield Row(f"{name}: deviation", float(value.std(dtype=np.float64)))
    yield Row(f"{name}: largest magnitude", float(np.abs(value).max()))


def _arrays(latents: Any) -> dict[str, np.ndarray]:
    """The arrays among what `encode` returned, by name; of several channels the first."""
    if isinstance(latents, np.ndarray):
        return {"z": latents}
    items = getattr(latents, "items", None)
    if isinstance(items, tuple) and items:
        return dict(items[0])
    return {"codes": latents.indices} if hasattr(latents, "indices") else {}


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.mean(axis=0, dtype=np.float64), b.mean(axis=0, dtype=np.float64)
    return float(x @ y / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12))


def _compared(row: Row, known: Mapping[str, Expectation]) -> Row:
    """The row with what is known of its quantity."""
    wanted = known.get(row.what)
    if wanted is None:
        return row
    number = isinstance(row.found, int | float)
    return Row(
        row.what,
        row.found,
        str(wanted),
        wanted.source,
        bool(wanted.low <= row.found <= wanted.high) if number else False,
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
