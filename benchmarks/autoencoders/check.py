"""The contract of an autoencoder as one function, for tests of your own system."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.base import Autoencoder
from benchmarks.autoencoders.notes import notes
from benchmarks.metrics.si_sdr import si_sdr_detailed
from m2l.audio import as_channels_first


class ContractError(AssertionError):
    """A system breaks the protocol; the message says how, and for which input."""


def check_autoencoder(
    system: str | Autoencoder, *, seconds: float = 1.5, max_delay: float | None = 0.001, **options: Any
) -> dict[str, Any]:
    """Run a system on mono and stereo clips at several rates and verify the protocol.

    Checked: exactly the input's shape, float samples that are finite, the input unchanged, the same output for the same
    seed, and (for systems that keep the waveform's phase) no delay.

    Args:
        system: a system, or its name as `create_autoencoder` takes it.
        seconds: length of the clips.
        max_delay: seconds by which the output may be shifted; None skips the check, as does an output that does not
            correlate with the input, so that a system that generates its own phase passes.
        **options: options of the adapter, when `system` is a name.

    Returns:
        `delay` in seconds (None: not measurable), `correlation` and `si_sdr` of the mono clip.

    Raises:
        ContractError: the first broken promise.
    """
    if isinstance(system, str):
        system = create_autoencoder(system, **options)
    rates = dict.fromkeys((system.spec.sample_rate or 44_100, 44_100, 48_000, 22_050))
    for rate in rates:
        for channels in (1, 2):
            _check_clip(system, notes(channels, seconds, rate), rate)
    rate = system.spec.sample_rate or 44_100
    clip = notes(1, seconds, rate)
    output = system.reconstruct(clip, rate, seed=0)
    delay, correlation = _delay(output[0], clip[0], rate)
    if max_delay is not None and delay is not None and abs(delay) > max_delay:
        raise ContractError(
            f"the output comes {delay * rate:.0f} samples {'late' if delay > 0 else 'early'} (at {rate} Hz): "
            "cut the delay in decode, or SI-SDR measures nothing else"
        )
    return {"delay": delay, "correlation": correlation, "si_sdr": _si_sdr(output[0], clip[0])}


def _check_clip(system: Autoencoder, clip: np.ndarray, rate: int) -> None:
    what = f"for {clip.shape[0]} channels of {clip.shape[1]} samples at {rate} Hz"
    given = clip.copy()
    output = system.reconstruct(given, rate, seed=1)
    if np.shape(output) != clip.shape:
        raise ContractError(f"output has shape {np.shape(output)} {what}")
    if not np.isfinite(np.asarray(output)).all():
        raise ContractError(f"output is not finite {what}")
    as_channels_first(output)  # refuses what is not audio, such as samples of unknown scale
    if not np.array_equal(given, clip):
        raise ContractError(f"the input was changed {what}: work on a copy")
    if not np.array_equal(output, system.reconstruct(clip.copy(), rate, seed=1)):
        raise ContractError(f"two runs with one seed differ {what}: draw all noise from `seed`")


def _delay(output: np.ndarray, clip: np.ndarray, rate: int) -> tuple[float | None, float]:
    """Delay of the output in seconds, by the peak of the cross-correlation; None where that is below 0.5."""
    n = 2 * len(clip)
    x, y = clip.astype(np.float64), output.astype(np.float64)
    energy = float(np.sqrt((x @ x) * (y @ y)))
    if energy == 0:
        return None, 0.0
    correlation = np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)), n) / energy
    peak = int(np.argmax(correlation))
    height = float(correlation[peak])
    return ((peak if peak < n // 2 else peak - n) / rate if height > 0.5 else None), height


def _si_sdr(output: np.ndarray, clip: np.ndarray) -> float:
    return float(si_sdr_detailed(output[None], clip[None]).value)
