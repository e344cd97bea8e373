"""ViSQOL v3: perceived quality of an estimate against its reference, as MOS-LQO from 1 to 5.

    from benchmarks.metrics.visqol.api import visqol
    visqol(preds, target, sample_rate).moslqo

    metric = ViSQOL()                                # many estimates of one reference: it is prepared once
    reference = metric.reference(target, sample_rate)
    results = metric.score_batch([preds_a, preds_b], reference)

It gives the numbers of Google's C++ (conformance number 333): in audio mode and by the exponential to 1e-12, by the
lattice network of speech mode, which is computed in float32, to 1e-5. It differs where the C++ makes a number up: a
silent or non-finite signal, one under 0.96 s, or two lengths over a second apart have no quality, and get NaN and the
reason. `strict_cpp=True` says what the C++ says.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol import audio
from benchmarks.metrics.visqol.core import Lap, Mapper, Reference, TooShortError, no_lap, prepare, score
from benchmarks.metrics.visqol.lattice import Lattice, load_lattice
from benchmarks.metrics.visqol.mapper import SupportVectorRegression, load_model, speech_mos
from benchmarks.metrics.visqol.modes import CONFORMANCE_NUMBER, MODES, VisqolResult
from benchmarks.registry import load_target
from benchmarks.weights.find import find_weight

__all__ = ["SPEC", "PreparedReference", "ViSQOL", "VisqolResult", "higher_is_better", "visqol"]

#: Raised when a change of this code can change a number; part of content keys.
VERSION = 1
SPEC: dict[str, Any] = {"metric": "visqol", "version": VERSION, "conformance": CONFORMANCE_NUMBER}
higher_is_better = True

Backend = Literal["numba", "torch"]
SpeechModel = Literal["lattice", "exponential"]


@dataclass(frozen=True)
class PreparedReference:
    """A reference that was prepared by `ViSQOL.reference`.

    Attributes:
        sample_rate: rate of the audio that was given, in Hz.
        n_samples: its length in samples.
        signal: mono at the rate it is scored at, (samples,); empty if `reason` is set.
        core: what the numba back end keeps of it; None for the torch back end, or if `reason` is set.
        reason: why nothing can be scored against it, else None.
    """

    sample_rate: int
    n_samples: int
    signal: NDArray[np.float64]
    core: Reference | None = None
    reason: str | None = None


class ViSQOL:
    """ViSQOL with its options; scores any number of pairs, from any number of threads.

    Args:
        mode: "audio" (48 kHz, support vector regression) or "speech" (16 kHz, `speech_model`).
        strict_cpp: no policy of our own: silence gets the C++'s number, what it refuses raises
            `ValueError`, and signals are scored at the rate they come in, as its command line does.
        encodec_compat: clamp to ±0.99 and round to 16 bits first, as EnCodec's evaluation does.
        speech_model: "lattice", Google's default in speech mode, a network that gives a perfect match about 4.5; or
            "exponential", which Google's code uses with `--use_lattice_model=false`, and needs no file.
        scaled_speech: the exponential gives 5 to a perfect match (Google's default), else about 4.
        model: file of the mode's model; by default the cache, then the installed wheel.
        backend: "numba" (float64, CPU) or "torch" (float32 spectrograms; for GPUs).
        device: torch device of the torch back end.

    Raises:
        ValueError: unknown mode, speech model or back end.
    """

    def __init__(
        self,
        mode: Literal["audio", "speech"] = "audio",
        *,
        strict_cpp: bool = False,
        encodec_compat: bool = False,
        speech_model: SpeechModel = "lattice",
        scaled_speech: bool = True,
        model: str | PathLike[str] | None = None,
        backend: Backend = "numba",
        device: str = "cpu",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if backend not in ("numba", "torch"):
            raise ValueError(f"backend must be 'numba' or 'torch', not {backend!r}")
        if speech_model not in ("lattice", "exponential"):
            raise ValueError(f"speech_model must be 'lattice' or 'exponential', not {speech_model!r}")
        self.mode, self.speech_model = MODES[mode], speech_model
        self.strict_cpp, self.encodec_compat, self.scaled_speech = strict_cpp, encodec_compat, scaled_speech
        self.model, self.backend, self.device = model, backend, device

    def spec(self) -> dict[str, Any]:
        """Everything that decides a number: for content keys.

        Raises:
            WeightsNotFoundError: the mode's model is not on this machine.
        """
        model = self._model()
        return {
            **SPEC,
            "mode": self.mode.name,
            "strict_cpp": self.strict_cpp,
            "encodec_compat": self.encodec_compat,
            "scaled_speech": self.scaled_speech,
            "backend": self.backend,
            "model": None if model is None else model.digest,
            **({"speech_model": self.speech_model} if self.mode.voice_activity else {}),
        }

    def _model(self) -> SupportVectorRegression | Lattice | None:
        if not self.mode.voice_activity:
            return load_model(find_weight("visqol-svr", self.model))
        if self.speech_model == "lattice":
            return load_lattice(find_weight("visqol-lattice", self.model))
        return None

    def _mapper(self) -> Mapper:
        model = self._model()
        if isinstance(model, Lattice):
            return model.predict
        if model is not None:
            predict = model.predict
            return lambda features: predict(features.nsim)
        scaled = self.scaled_speech
        return lambda features: speech_mos(features.nsim, scaled=scaled)

    def _signal(self, channels: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
        wanted = rate if self.strict_cpp else self.mode.sample_rate
        return audio.to_mono(channels, rate, wanted, encodec_compat=self.encodec_compat)

    def reference(self, target: Any, sample_rate: int) -> PreparedReference:
        """Prepare a reference; every estimate scored against it then costs less.

        Args:
            target: (samples,) or (channels, samples), numpy or torch.
            sample_rate: in Hz.

        Raises:
            ValueError: not audio, or (`strict_cpp`) too short.
        """
        rate, channels = audio.check_rate(sample_rate), audio.as_channels(target, "target")
        empty, n = np.empty(0), channels.shape[1]
        if not self.strict_cpp and (reason := audio.why_undefined(channels, "target")):
            return PreparedReference(rate, n, empty, reason=reason)
        signal = self._signal(channels, rate)
        if self.backend == "torch":
            return PreparedReference(rate, n, signal)
        try:
            core = prepare(signal, rate if self.strict_cpp else self.mode.sample_rate, self.mode)
        except TooShortError as error:
            if self.strict_cpp:
                raise
            return PreparedReference(rate, n, empty, reason=str(error))
        return PreparedReference(rate, n, signal, core)

    def score(
        self, preds: Any, reference: PreparedReference, sample_rate: int | None = None, *, lap: Lap = no_lap
    ) -> VisqolResult:
        """Score one estimate against a prepared reference.

        Args:
            preds: (samples,) or (channels, samples), numpy or torch; it may have other channels than the
                reference, both are averaged to mono.
            reference: from `reference` of this object.
            sample_rate: in Hz, if it is not that of the reference.
            lap: told the name of each stage as it ends (numba back end); for profiles.

        Returns:
            The result; `moslqo` is NaN and `reason` says why where there is no answer.

        Raises:
            ValueError: not audio; with `strict_cpp`, other rates than the reference's and signals that
                are too short.
            WeightsNotFoundError: the mode's model is not on this machine; says how to get it.
        """
        if self.backend == "torch":
            return self.score_batch([preds], reference, sample_rate)[0]
        signal = self._estimate(preds, reference, sample_rate)
        if isinstance(signal, VisqolResult):
            return signal
        mapper = self._mapper()
        lap("input")
        assert reference.core is not None
        try:
            return score(reference.core, signal, mapper, lap=lap)
        except TooShortError as error:
            if self.strict_cpp:
                raise
            return VisqolResult.undefined(str(error), reference.core.sample_rate)

    def _estimate(
        self, preds: Any, reference: PreparedReference, sample_rate: int | None
    ) -> NDArray[np.float64] | VisqolResult:
        """The estimate's mono signal, or the result if there is no answer."""
        rate = reference.sample_rate if sample_rate is None else audio.check_rate(sample_rate)
        channels = audio.as_channels(preds, "preds")
        if self.strict_cpp and rate != reference.sample_rate:
            raise ValueError(f"sample rates differ: target {reference.sample_rate} Hz, preds {rate} Hz")
        if not self.strict_cpp:
            n_at_reference_rate = round(channels.shape[1] * reference.sample_rate / rate)
            reason = (
                reference.reason
                or audio.why_undefined(channels, "preds")
                or audio.why_unmatched(reference.n_samples, n_at_reference_rate, reference.sample_rate)
            )
            if reason:
                return VisqolResult.undefined(reason, self.mode.sample_rate)
        return self._signal(channels, rate)

    def score_batch(
        self,
        preds: Sequence[Any],
        references: PreparedReference | Sequence[PreparedReference],
        sample_rate: int | None = None,
        *,
        workers: int = 1,
    ) -> list[VisqolResult]:
        """Score many estimates; results come in their order and do not depend on the batch.

        Args:
            preds: estimates as for `score`.
            references: one for all, or one for each.
            sample_rate: of the estimates in Hz, if not that of their references.
            workers: threads (numba back end; the kernels hold no lock).

        Raises:
            ValueError: as `score`, or another number of references than estimates.
        """
        each = [references] * len(preds) if isinstance(references, PreparedReference) else list(references)
        if len(each) != len(preds):
            raise ValueError(f"{len(preds)} estimates but {len(each)} references")
        if self.backend == "torch":
            return self._score_torch(preds, each, sample_rate)
        if workers <= 1:
            return [self.score(p, r, sample_rate) for p, r in zip(preds, each, strict=True)]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda p, r: self.score(p, r, sample_rate), preds, each))

    def _score_torch(
        self, preds: Sequence[Any], references: Sequence[PreparedReference], sample_rate: int | None
    ) -> list[VisqolResult]:
        results: dict[int, VisqolResult] = {}
        pairs: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        for i, (estimate, reference) in enumerate(zip(preds, references, strict=True)):
            signal = self._estimate(estimate, reference, sample_rate)
            if isinstance(signal, VisqolResult):
                results[i] = signal
            else:
                pairs[i] = (reference.signal, signal)
        rate = references[0].sample_rate if self.strict_cpp and references else self.mode.sample_rate
        score_pairs = load_target("benchmarks.metrics.visqol.batched:score_pairs")  # needs torch
        scored = score_pairs(list(pairs.values()), rate, self.mode, self._mapper(), self.device)
        for i, result in zip(pairs, scored, strict=True):
            if isinstance(result, TooShortError):
                if self.strict_cpp:
                    raise result
                result = VisqolResult.undefined(str(result), rate)
            results[i] = result
        return [results[i] for i in range(len(preds))]


@lru_cache(maxsize=8)
def _shared(
    mode: Literal["audio", "speech"],
    strict_cpp: bool,
    encodec_compat: bool,
    model: str | None,
    speech_model: SpeechModel,
) -> ViSQOL:
    return ViSQOL(mode, strict_cpp=strict_cpp, encodec_compat=encodec_compat, model=model, speech_model=speech_model)


def visqol(
    preds: Any,
    target: Any,
    sample_rate: int,
    strict_cpp: bool = False,
    *,
    mode: Literal["audio", "speech"] = "audio",
    speech_model: SpeechModel = "lattice",
    encodec_compat: bool = False,
    model: str | PathLike[str] | None = None,
) -> VisqolResult:
    """ViSQOL of one pair.

    Args:
        preds: the estimate, (samples,) or (channels, samples), numpy or torch.
        target: the reference, the same; other channel counts are fine, both are averaged to mono.
        sample_rate: of both, in Hz; resampled to 48 kHz (audio) or 16 kHz (speech).
        strict_cpp: what Google's C++ says, also about silence (see `ViSQOL`).
        mode: "audio" or "speech".
        speech_model: of speech mode: "lattice", Google's default, or "exponential" (see `ViSQOL`).
        encodec_compat: clamp to ±0.99 and round to 16 bits first, as EnCodec's evaluation does.
        model: file of the mode's model.

    Returns:
        The result, with `.moslqo`, NaN with a `.reason` where there is no answer.

    Raises:
        ValueError: not audio; with `strict_cpp`, signals that are too short.
        WeightsNotFoundError: the mode's model is not on this machine; says how to get it.
    """
    metric = _shared(mode, strict_cpp, encodec_compat, None if model is None else str(model), speech_model)
    return metric.score(preds, metric.reference(target, sample_rate))
