"""What units do, one function per stage: `load -> reconstruct -> score | embed -> aggregate`.

They run in worker processes. A clip that cannot be processed is recorded with its reason; the others continue. Audio is
stored as float32 samples, not as FLAC: integer formats clip systems that overshoot and put a floor of quantization
noise under those that are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.own.external import External
from benchmarks.embedders import create_embedder, embedder_label
from benchmarks.evaluation.jobs import AggregateJob, CompareJob, EmbedJob, Limits, LoadJob, ReadFilesJob, ReconstructJob
from benchmarks.evaluation.trial import constructed, watching
from benchmarks.harness.units import Unit, fetch, resident
from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.statistics.corpus import compare_replicates, corpus_distance
from benchmarks.statistics.means import summarize
from benchmarks.statistics.multiple import adjust_pairs, compare_pairs
from benchmarks.store.fingerprint import derive_seed, digest
from benchmarks.store.store import Result, Store
from benchmarks.user_code import describe, is_system_failure, place_of, raised_by_user, user_error
from m2l.audio import cancels, resample, to_mono
from m2l.io.digest import known_sha256


def load(unit: Unit, store: Store) -> Result:
    """Read or render clips; those outside the suite's limits become reasons. Payload: `LoadJob`."""
    job: LoadJob = unit.payload
    clips, limits = job.clips, job.limits
    arrays: dict[str, np.ndarray] = {}
    rates: dict[str, int] = {}
    failures: dict[str, str] = {}
    for clip in clips:
        try:
            audio, rate = clip.load()
            reason = unusable(audio, rate, limits)
        except (OSError, ValueError, RuntimeError) as error:
            reason = _cut(f"unreadable: {_without_clip(_first_line(error), clip)}")
        if reason is not None:
            failures[clip.id] = reason
            continue
        arrays[clip.id] = to_mono(audio) if limits.channels == "mono" else audio
        rates[clip.id] = int(rate)
    return Result({"sample_rates": rates, "failures": failures}, arrays)


def unusable(audio: np.ndarray, sample_rate: int, limits: Limits) -> str | None:
    """Why a clip is not measured; None when it is."""
    channels, samples = audio.shape
    if not np.isfinite(audio).all():
        return "samples that are not finite"
    if channels > 2:
        return f"{channels} channels (mono and stereo are measured)"
    if sample_rate < limits.min_sample_rate:
        return f"sample rate {sample_rate} Hz (at least {limits.min_sample_rate} Hz)"
    if samples / sample_rate < limits.min_seconds:
        return f"shorter than {limits.min_seconds:g} s"
    mono = limits.channels == "mono"
    if mono and cancels(audio) and math.sqrt(float(np.square(audio, dtype=np.float64).mean())) > limits.silence_rms:
        return 'channels that cancel as mono (channels = "native" under [data] measures them)'
    folded = to_mono(audio) if mono else audio
    if math.sqrt(float(np.mean(np.square(folded, dtype=np.float64)))) < limits.silence_rms:
        return "silent"
    return None


def reconstruct(unit: Unit, store: Store) -> Result:
    """Run a system over the clips of a load unit. Payload: `ReconstructJob`."""
    job: ReconstructJob = unit.payload
    source = fetch(unit.inputs[0], store)
    arrays: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    bitrates: dict[str, float] = {}
    identity = digest(unit.spec.get("system"))  # a process may outlive an edit of the code or the weights
    with watching(unit, store):
        system = resident(
            ("system", job.name, repr(sorted(job.options.items())), identity),
            lambda: constructed(lambda: create_autoencoder(job.name, **job.options)),
        )
        for clip_id, audio in source.arrays.items():
            rate = source.meta["sample_rates"][clip_id]
            try:
                output, bitrate = reconstruct_one(system, audio, rate, derive_seed(job.seed, clip_id), job.n_steps)
            except (Exception, SystemExit) as error:
                failures[clip_id] = reason_of(error, unit, clip_id)
                continue
            arrays[clip_id] = output
            if bitrate is not None:
                bitrates[clip_id] = bitrate
    metadata = {"n_parameters": system.spec.n_parameters}
    meta = {"failures": failures, "bitrates": bitrates, "metadata": metadata}
    return Result(meta | ({"again": True} if failures and unit.watch is not None else {}), arrays)


def reason_of(error: BaseException, unit: Unit, clip_id: str) -> str:
    """Why a clip is left out: the error's message, and for a mistake in a user's code also the line.

    Raises:
        UserCodeError: in a user's code the machine failed (memory, disk): that is no result to keep.
        BaseException: `error`, if it is a failure of the machine, or of our own code.
    """
    own = unit.watch is not None
    if is_system_failure(error):
        raise user_error(error, clip_id) if own else error
    told = isinstance(error, (ValueError, RuntimeError, ArithmeticError))
    if told and (not own or place_of(error) is None or raised_by_user(error)):
        return _short(error)
    if not own:
        raise error
    return _cut(describe(error))


def reconstruct_one(
    system: Any, audio: np.ndarray, rate: int, seed: int, n_steps: int | None
) -> tuple[np.ndarray, float | None]:
    bitrate = None
    if system.spec.bitrate is not None:
        encoded = system.encode(audio, rate)
        bitrate = getattr(encoded, "bitrate", None)
        output = system.decode(encoded, length=audio.shape[1], sample_rate=rate, seed=seed, n_steps=n_steps)
    else:
        output = system.reconstruct(audio, rate, seed=seed, n_steps=n_steps)
    output = np.asarray(output, dtype=np.float32)
    if output.shape != audio.shape:
        raise ValueError(f"output has shape {output.shape} for an input of shape {audio.shape}")
    if not np.isfinite(output).all():
        raise ValueError("output has samples that are not finite")
    return output, bitrate


def read_files(unit: Unit, store: Store) -> Result:
    """Read an external system's files of a unit's clips: `reconstruct` for what ran elsewhere. Payload: `ReadFilesJob`.

    Raises:
        RuntimeError: files changed since the run was planned: their numbers would get another's key.
    """
    job: ReadFilesJob = unit.payload
    source = fetch(unit.inputs[0], store)
    system = External(job.folder, tolerance=job.tolerance, resample=job.resample)
    arrays: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    for clip_id, audio in source.arrays.items():
        try:
            if clip_id in job.refused:
                raise ValueError(job.refused[clip_id])
            file, digest_then = job.files[clip_id]
            if not system.path_of(file).is_file() or known_sha256(system.path_of(file)) != digest_then:
                raise RuntimeError(f"the file of clip {clip_id!r} changed during the run; run again")
            rate = source.meta["sample_rates"][clip_id]
            arrays[clip_id] = system.reconstruction(file, audio, rate)
        except ValueError as error:
            failures[clip_id] = _cut(str(error).splitlines()[0])
    return Result({"failures": failures, "bitrates": {}, "metadata": {"n_parameters": None}}, arrays)


def score(unit: Unit, store: Store) -> Result:
    """A full-reference metric over the clips of a reconstruction. Payload: the metric."""
    source, output = fetch(unit.inputs[0], store), fetch(unit.inputs[1], store)
    with watching(unit, store):  # what the store reads is not what a user's code reads
        return _score_clips(unit, unit.payload, source, output)


def _score_clips(unit: Unit, metric: PairMetric, source: Result, output: Result) -> Result:
    values: dict[str, float] = {}
    notes: dict[str, str] = {}
    lost: dict[str, str] = dict(output.meta["failures"])
    failures: dict[str, str] = source.meta["failures"] | output.meta["failures"]
    for clip_id, preds in output.arrays.items():
        try:
            rate = source.meta["sample_rates"][clip_id]
            value, reason = clip_score(metric, preds, source.arrays[clip_id], rate)
        except (Exception, SystemExit) as error:
            if unit.watch is None and not isinstance(error, (ValueError, ArithmeticError)):
                raise
            value, reason = math.nan, _short(error) if unit.watch is None else reason_of(error, unit, clip_id)
            lost[clip_id] = reason
        if math.isnan(value):
            failures[clip_id] = reason or "undefined"
            continue
        values[clip_id] = value
        if reason:
            notes[clip_id] = reason
    found = {"values": values, "notes": notes, "failures": failures, "lost": lost}
    again = {"again": True} if unit.watch is not None and len(lost) > len(output.meta["failures"]) else {}
    return Result(found | {"unusable": source.meta["failures"]} | again)


def embed(unit: Unit, store: Store) -> Result:
    """Embeddings `(windows, dim)` per clip, of a reconstruction or (without one) of the clips themselves.

    Payload: `EmbedJob`. Clips are folded to mono and resampled to the embedder's rate. Where the
    channels of the original cancel, those of both sides are embedded one after the other.
    """
    source = fetch(unit.inputs[0], store)
    output = source if len(unit.inputs) == 1 else fetch(unit.inputs[1], store)
    with watching(unit, store):
        return _embed_clips(unit, source, output)


def _embed_clips(unit: Unit, source: Result, output: Result) -> Result:
    job: EmbedJob = unit.payload
    identity = digest(unit.spec.get("embedder"))
    embedder = resident(("embedder", job.name, identity), lambda: create_embedder(job.name, **job.options))
    arrays: dict[str, np.ndarray] = {}
    failures: dict[str, str] = source.meta["failures"] | output.meta["failures"]
    before = len(failures)
    rates = source.meta["sample_rates"]
    signals = [
        (clip_id, resample(signal, rates[clip_id], embedder.sample_rate, exact=False)[0])
        for clip_id, samples in output.arrays.items()
        for signal in (samples[:, None] if cancels(source.arrays[clip_id]) else [to_mono(samples)])
    ]
    for clip_id, vectors in _embed_all(embedder, signals, failures).items():
        vectors = np.asarray(vectors, dtype=np.float32)
        if not np.isfinite(vectors).all():
            failures[clip_id] = "embeddings that are not finite"
        elif len(vectors) == 0:
            failures[clip_id] = f"too short for a window of {embedder_label(job.name)}"
        else:
            arrays[clip_id] = vectors
    again = unit.watch is not None and len(failures) > before
    meta = {"unusable": source.meta["failures"], "failures": failures}
    return Result(meta | ({"again": True} if again else {}), arrays)


def _embed_all(
    embedder: Any, signals: Sequence[tuple[str, np.ndarray]], failures: dict[str, str]
) -> dict[str, np.ndarray]:
    """Windows by clip, all in one batch; if one is refused, one by one, so that only that one is lost."""
    found: dict[str, list[np.ndarray]] = {}
    try:
        batch = embedder.embed_batch([signal for _, signal in signals])
        for (clip_id, _), vectors in zip(signals, batch, strict=True):
            found.setdefault(clip_id, []).append(vectors)
    except (ValueError, ArithmeticError):
        found = {}
        for clip_id, signal in signals:
            try:
                found.setdefault(clip_id, []).append(embedder.embed(signal))
            except (ValueError, ArithmeticError) as error:
                failures[clip_id] = _short(error)
    return {
        clip_id: parts[0] if len(parts) == 1 else np.concatenate(parts)
        for clip_id, parts in found.items()
        if parts and clip_id not in failures
    }


def aggregate_pairs(unit: Unit, store: Store) -> Result:
    """Mean, median and interval of per-clip scores. Payload: `AggregateJob`."""
    job: AggregateJob = unit.payload
    how = job.resampling
    scores = [fetch(item, store) for item in unit.inputs]
    values = _joined(scores, "values")
    ordered = {clip: values[clip] for clip in job.clip_ids if clip in values}
    meta: dict[str, Any] = {"values": ordered}
    meta |= {name: _joined(scores, name) for name in ("failures", "unusable", "lost", "notes")}
    if ordered:
        groups = job.groups_of(ordered)
        found = summarize(
            list(ordered.values()), groups, n_resamples=how.resamples, confidence=how.level, seed=how.seed
        )
        meta |= {"value": found.mean, "median": found.median, "n": found.n, "n_groups": found.n_groups}
        meta |= {"low": found.low, "high": found.high}
    return Result(meta)


def aggregate_corpus(unit: Unit, store: Store) -> Result:
    """A distance of corpora with its interval over groups of clips. Payload: `AggregateJob`.

    Inputs: embeddings of the clips, then of the reconstructions, in equal numbers of units. Only clips
    that both have count: a system's output is compared with what it was made from.
    """
    job: AggregateJob = unit.payload
    how = job.resampling
    half = len(unit.inputs) // 2
    parts = [fetch(item, store) for item in unit.inputs]
    reference = {clip: x for part in parts[:half] for clip, x in part.arrays.items()}
    outputs = {clip: x for part in parts[half:] for clip, x in part.arrays.items()}
    failures, hopeless = _joined(parts, "failures"), _joined(parts[:half], "failures")
    clips = [clip for clip in job.clip_ids if clip in reference and clip in outputs]
    meta: dict[str, Any] = {"failures": failures, "clips": clips, "unusable": _joined(parts, "unusable")}
    # What the originals have no embedding of is not the system's doing.
    meta["lost"] = {clip: why for clip, why in failures.items() if clip not in hopeless}
    try:
        meta |= corpus_distance(
            job.distance,
            [reference[clip] for clip in clips],
            [outputs[clip] for clip in clips],
            groups=job.groups_of(clips),
            seed=how.seed,
            level=how.level,
        )
    except ValueError as error:
        meta["reason"] = _short(error)
    return Result(meta)


def _joined(parts: Sequence[Result], name: str) -> dict[str, Any]:
    """One entry of the meta of several units, by clip."""
    return {clip: value for part in parts for clip, value in part.meta[name].items()}


def aggregate_metadata(unit: Unit, store: Store) -> Result:
    """What only running a system tells: its number of parameters, and the bit rates it really used."""
    parts = [_meta(item, store) for item in unit.inputs]
    rates = [rate for part in parts for rate in part["bitrates"].values()]
    known = [part["metadata"]["n_parameters"] for part in parts if part["metadata"]["n_parameters"] is not None]
    meta: dict[str, Any] = {"n_parameters": known[0] if known else None}
    if rates:
        meta["bitrate"] = float(np.median(rates))
        meta["bitrate_range"] = [float(min(rates)), float(max(rates))]
    return Result(meta)


def _meta(unit: Unit, store: Store) -> dict[str, Any]:
    """A unit's meta without its audio; computed if the store lacks it."""
    try:
        return store.meta(unit.key)
    except KeyError:
        return fetch(unit, store).meta


def compare_score_units(unit: Unit, store: Store) -> Result:
    """Pairwise comparisons of one metric. Inputs: aggregates; payload: `CompareJob`."""
    job: CompareJob = unit.payload
    values = {row: fetch(item, store).meta["values"] for row, item in zip(job.rows, unit.inputs, strict=True)}
    how = job.resampling
    records = compare_pairs(values, job.groups, resamples=how.resamples, seed=how.seed, level=how.level)
    return Result({"comparisons": adjust_pairs(records, how.level)})


def compare_corpus_units(unit: Unit, store: Store) -> Result:
    """Pairwise comparisons of one corpus distance, by its replicates on the same clips. Payload: `CompareJob`."""
    job: CompareJob = unit.payload
    cells = {row: fetch(item, store).meta for row, item in zip(job.rows, unit.inputs, strict=True)}
    level = job.resampling.level
    return Result({"comparisons": adjust_pairs(compare_replicates(cells, level=level), level)})


def _without_clip(message: str, clip: Any) -> str:
    """The message without the clip's own names, so that equal reasons are counted together."""
    message = message.removeprefix(f"clip {clip.id!r} of {clip.dataset!r}: ")
    source = getattr(clip.loader, "path", None)
    for name in (source, clip.source, clip.id):
        if name:
            message = message.replace(str(name), "the file")
    return message


def _short(error: BaseException) -> str:
    return _cut(_first_line(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
