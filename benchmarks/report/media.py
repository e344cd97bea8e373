"""One clip of one system, ready for a browser: compressed audio and a spectrogram picture, as a work unit."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.units import Unit, fetch
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.si_sdr import SI_SDR, SI_SDR_SIDE
from benchmarks.report.pictures import mel_spectrogram_db, picture
from benchmarks.store.store import Result, Store
from m2l.audio import resample

#: Format -> container, subtype, options, MIME type, and what it is in words. MP3 plays in every browser.
#: V0 is LAME's best variable rate; V5, with about half the bytes, is for reports with dozens of clips. Vorbis 0.3 is
#: about quality 7.
FORMATS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "mp3": (
        "MP3",
        "MPEG_LAYER_III",
        {"compression_level": 0.0, "bitrate_mode": "VARIABLE"},
        "audio/mpeg",
        "MP3 at its best variable rate (V0)",
    ),
    "mp3-small": (
        "MP3",
        "MPEG_LAYER_III",
        {"compression_level": 0.5, "bitrate_mode": "VARIABLE"},
        "audio/mpeg",
        "MP3 at a medium variable rate (V5)",
    ),
    "ogg": ("OGG", "VORBIS", {"compression_level": 0.3}, "audio/ogg", "Ogg Vorbis, quality 7"),
    "flac": ("FLAC", "PCM_16", {}, "audio/flac", "FLAC, 16 bits (lossless)"),
}
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class RenderJob:
    """Payload of `render`: a clip, the format of its audio, and whether its table scores stereo outputs."""

    clip_id: str
    format: str
    stereo: bool = False


def render(unit: Unit, store: Store) -> Result:
    """Audio and picture of a clip.

    Inputs: the load unit, and (for a system) its reconstruct unit. Payload: `RenderJob`.

    Returns:
        Arrays `audio` (an encoded file) and `picture` (a PNG) as bytes; meta `sample_rate`, `seconds`,
        `rms_db`, `gain_db` (what the audio was turned down by so as not to clip), `checked`: the metric by which the
        audio is held to the table, whose value is under its own name. A system whose
        output equals its input bit for bit has `same` and no arrays; a clip that failed has its `reason`.
    """
    job: RenderJob = unit.payload
    clip_id, format = job.clip_id, job.format
    source = fetch(unit.inputs[0], store)
    failed = dict(source.meta["failures"])
    output = source
    if len(unit.inputs) == 2:
        output = fetch(unit.inputs[1], store)
        failed |= output.meta["failures"]
    if clip_id not in output.arrays:
        return Result({"reason": failed.get(clip_id, "not among the clips of its unit")})
    original, audio = source.arrays[clip_id], output.arrays[clip_id]
    rate = int(source.meta["sample_rates"][clip_id])
    meta: dict[str, Any] = {"sample_rate": rate, "seconds": audio.shape[1] / rate, "rms_db": rms_db(audio)}
    if len(unit.inputs) == 2:
        # Beside stereo outputs a table has those of mono folds, and its plain SI-SDR is of these.
        metric = SI_SDR_SIDE if job.stereo and len(original) == 2 else SI_SDR
        value, _ = clip_score(metric, audio, original, rate)
        meta |= {"checked": metric.name, metric.name: value}
        if np.array_equal(original, audio):
            return Result(meta | {"same": True})
    reference = mel_spectrogram_db(original, rate)
    levels = reference if audio is original else mel_spectrogram_db(audio, rate)
    peak = float(np.abs(audio).max(initial=0.0))
    gain = 1.0 / peak if peak > 1.0 else 1.0
    arrays = {
        "audio": np.frombuffer(encode(audio * np.float32(gain), rate, format), dtype=np.uint8),
        "picture": np.frombuffer(picture(levels, float(reference.max())), dtype=np.uint8),
    }
    return Result(meta | {"gain_db": 20 * math.log10(gain)}, arrays)


def rms_db(audio: npt.NDArray[np.float32]) -> float:
    """Root mean square in dB of full scale; -120 for silence."""
    power = float(np.mean(np.square(audio, dtype=np.float64)))
    return max(-120.0, 10 * math.log10(power)) if power > 0 else -120.0


def encode(audio: npt.NDArray[np.float32], sample_rate: int, format: str) -> bytes:
    """An audio file of `(channels, samples)`, in blocks (one long call crashes libsndfile's Vorbis).

    Raises:
        ValueError: no such format.
    """
    import soundfile

    if format not in FORMATS:
        raise ValueError(f"audio format {format!r}: it must be one of {', '.join(FORMATS)}")
    container, subtype, options, _, _ = FORMATS[format]
    rate = sample_rate
    if container == "MP3" and rate not in _MP3_RATES:
        rate = 48000 if rate > 48000 else 44100
        audio = resample(audio, sample_rate, rate, exact=False)
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=rate, channels=len(audio), format=container, subtype=subtype, **options
    ) as file:
        for start in range(0, audio.shape[1], rate):
            file.write(np.ascontiguousarray(audio[:, start : start + rate].T))
    return buffer.getvalue()
