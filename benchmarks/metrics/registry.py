"""Metrics by name: ours, those of installed packages (entry points `m2l.metrics`), and a user's own functions.

    si_sdr, si_sdr:side             metrics of pairs
    fad:vggish                      a distance of corpora in an embedder's space
    latent_mse:mini                 a distance of pairs in a checkpoint's latents
    fad:my_embedder.py:Embedder     the same in the space of a user's embedder
    my_metric.py:function           a user's function of (preds, target, sample_rate), or a `Metric`
    LABEL=my_metric.py:function     the same under another name

Listing them imports nothing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import PurePath
from typing import Any

from benchmarks.embedders import list_embedders
from benchmarks.metrics.base import CorpusMetric, Metric, PairMetric
from benchmarks.registry import Registry, UnknownNameError
from benchmarks.store.own_code import import_own, own_module, split_label
from benchmarks.user_code import UserCodeError, is_first_party

METRICS = Registry("metric", entry_point_group="m2l.metrics")
METRICS.register("si_sdr", "benchmarks.metrics.si_sdr:SI_SDR")
METRICS.register("si_sdr:mid", "benchmarks.metrics.si_sdr:SI_SDR_MID")
METRICS.register("si_sdr:side", "benchmarks.metrics.si_sdr:SI_SDR_SIDE")
METRICS.register("si_sdr:joint", "benchmarks.metrics.si_sdr:SI_SDR_JOINT")
METRICS.register("si_sdr:per_channel", "benchmarks.metrics.si_sdr:SI_SDR_PER_CHANNEL")
METRICS.register("snr", "benchmarks.metrics.snr:SNR")
METRICS.register("mel", "benchmarks.metrics.mel:MEL")
METRICS.register("mr_stft", "benchmarks.metrics.mr_stft:MR_STFT")
METRICS.register("mr_stft:dac", "benchmarks.metrics.mr_stft:MR_STFT_DAC")
METRICS.register("lsd", "benchmarks.metrics.lsd:LSD")
METRICS.register("lsd:8k-", "benchmarks.metrics.lsd:LSD_HIGH")
METRICS.register("loudness_error", "benchmarks.metrics.loudness:LOUDNESS_ERROR")
METRICS.register("stereo_coherence", "benchmarks.metrics.stereo:STEREO_COHERENCE")
METRICS.register("stereo_phase", "benchmarks.metrics.stereo:STEREO_PHASE")
METRICS.register("chroma", "benchmarks.metrics.chroma:CHROMA")
METRICS.register("visqol", "benchmarks.metrics.visqol.metric:VISQOL")
METRICS.register("visqol:speech", "benchmarks.metrics.visqol.metric:VISQOL_SPEECH")
METRICS.register("pesq", "benchmarks.metrics.pesq:PESQ")
METRICS.register("stoi", "benchmarks.metrics.stoi:STOI")
METRICS.register("f0_accuracy", "benchmarks.metrics.f0_accuracy:F0_ACCURACY")
METRICS.register("note_f1", "benchmarks.metrics.note_f1:NOTE_F1")
METRICS.register("cdpam", "benchmarks.metrics.cdpam:CDPAM_DISTANCE")
METRICS.register("latent_mse", "benchmarks.metrics.latent_mse:LATENT_MSE")
METRICS.register("fad", "benchmarks.metrics.frechet:FAD")
METRICS.register("fad_debiased", "benchmarks.metrics.frechet:FAD_DEBIASED")
METRICS.register("fad_inf", "benchmarks.metrics.frechet:FAD_INF")
METRICS.register("kad", "benchmarks.metrics.kernel:KAD")
METRICS.register("kad_paired", "benchmarks.metrics.kernel:KAD_PAIRED")

#: Those of ours that are distances of corpora, so that listing names imports nothing.
CORPUS_METRICS = ("fad", "fad_debiased", "fad_inf", "kad", "kad_paired")
#: Those of ours that take a checkpoint after a colon, with the names that are listed.
CHECKPOINT_METRICS = {"latent_mse": ("mini", "music2latent")}

_MOST_DIGITS = 12
#: Fields that a user's function may carry as attributes, and what they have to be.
_DECLARABLE: dict[str, tuple[type, ...]] = {
    "title": (str,),
    "higher_is_better": (bool,),
    "digits": (int,),
    "unit": (str,),
    "note": (str,),
    "version": (str, int),
    "worst": (int, float),
    "best": (int, float),
    "tolerance": (int, float),
    "relative_tolerance": (int, float),
    "elsewhere_tolerance": (int, float),
    "floor": (int, float),
    "collapse": (int, float),
    "exact": (bool,),
    "folds": (bool,),
}


def parse_metric(name: str | Metric) -> Metric:
    """The metric called `name`; a `Metric` is returned as it is.

    Raises:
        UnknownNameError: no such metric or embedder; the message gives the nearest.
        FileNotFoundError: the file of a user's function does not exist.
        ImportError: a user's module does not import, or has no such attribute.
        UserCodeError: what a user's file declares is no metric.
    """
    if isinstance(name, Metric):
        return name
    label, target = split_label(name)
    kind, colon, argument = (target, "", "") if target in METRICS else target.partition(":")
    if kind in METRICS:
        found = _declared(kind)
        if found.needs:
            if not argument:
                raise UnknownNameError("metric", target, (), f"it needs {found.needs.format(name=kind)}")
            found = found.of(argument)
        elif colon:
            raise _unknown(target)
        return found if label is None else dataclasses.replace(found, name=label, title=label, given=name)
    if not colon or not _is_code(target):
        raise _unknown(target)
    return _own_metric(import_own(target), target, label, name)


def declared_metric(name: str) -> Metric | None:
    """The metric, or the distance without its embedder, that a column of results is named after; None if unknown."""
    kind = name if name in METRICS else name.partition(":")[0]
    return _declared(kind) if kind in METRICS else None


def list_metrics() -> list[str]:
    """All registered names, with every embedder and the known checkpoints; imports nothing."""
    found = []
    for name in METRICS.names():
        if name in CORPUS_METRICS:
            found += [f"{name}:{embedder}" for embedder in list_embedders()]
        elif name in CHECKPOINT_METRICS:
            found += [f"{name}:{checkpoint}" for checkpoint in CHECKPOINT_METRICS[name]]
        else:
            found.append(name)
    return found


def _declared(kind: str) -> Metric:
    """The metric that a registered name stands for."""
    target = METRICS.target(kind)
    if is_first_party(target):
        found: Metric = METRICS.load(kind)
        return found
    return _own_metric(import_own(target), target, kind, kind)


def _unknown(name: str) -> UnknownNameError:
    groups = (
        f"there are si_sdr, mel, visqol and others (m2l-bench list metrics); {', '.join(CORPUS_METRICS)} with an "
        "embedder, as in fad:vggish (m2l-bench list embedders); or FILE.py:function of your own"
    )
    return UnknownNameError("metric", name, list_metrics(), groups)


def _is_code(target: str) -> bool:
    """Whether `target` names a file, or a module that can be imported."""
    place = target.rpartition(":")[0]
    if place.endswith(".py"):
        return True
    try:
        own_module(target)  # a module may lie in the current folder
        return importlib.util.find_spec(place.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _own_metric(value: Any, target: str, label: str | None, given: str) -> Metric:
    """A user's `Metric`, function, or class without arguments, as a metric of its own name.

    Raises:
        UserCodeError: it is none of these, or an attribute has a wrong value.
    """
    path, _, attribute = target.rpartition(":")
    name = label or f"{PurePath(path).stem if path.endswith('.py') else path}:{attribute}"
    if isinstance(value, Metric):
        if isinstance(value, CorpusMetric) and value.embedder == "" and given != label:
            raise UserCodeError(f"{name}: a distance of corpora is used as an entry point, or with an embedder")
        return dataclasses.replace(value, name=name, title=label or value.title, given=given, own=target)
    function = value() if isinstance(value, type) else value
    if not callable(function):
        raise UserCodeError(f"{name}: {type(value).__name__} is no function of (preds, target, sample_rate)")
    fields = {field: getattr(function, field) for field in _DECLARABLE if hasattr(function, field)}
    for field, found in fields.items():
        _check(name, field, found)
    lines = (getattr(function, "__doc__", None) or "").strip().splitlines()
    note = fields.get("note") or (lines[0] if lines else name)
    if "higher_is_better" not in fields:
        note += " (no direction declared: higher counts as better)"
    digits = fields.get("digits", 3)
    # Without a tolerance of its own, what tables cannot show does not count, and 2 % on another processor.
    gate = {} if "tolerance" in fields else {"tolerance": 10.0**-digits, "elsewhere_tolerance": 0.02}
    title = label or fields.get("title") or attribute
    fields |= {"title": title, "note": note, "digits": digits, "version": str(fields.get("version", "1"))}
    return PairMetric(name=name, function=function, given=given, own=target, **{**gate, **fields})


def _check(name: str, field: str, value: Any) -> None:
    kinds = _DECLARABLE[field]
    right = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if right and "tolerance" in field:
        right = 0.0 <= value < math.inf
    if right and field == "digits":
        right = 0 <= value <= _MOST_DIGITS
    if not right:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise UserCodeError(f"{name}: {field} is {value!r}, expected {wanted} in a sensible range")
