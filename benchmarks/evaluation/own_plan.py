"""How each kind of a user's code is tried: systems and programs, embedders (representations: `probes`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.autoencoders import AUTOENCODERS, create_autoencoder, own_target
from benchmarks.autoencoders.names import label_of, system_code
from benchmarks.autoencoders.notes import notes
from benchmarks.datasets import Clip
from benchmarks.embedders import create_embedder, embedder_label, embedder_spec
from benchmarks.embedders.base import own_target as own_embedder
from benchmarks.evaluation.jobs import Limits
from benchmarks.evaluation.stages import reconstruct_one, unusable
from benchmarks.evaluation.trial import CLIPS, SECONDS, Trial, TrialClip, try_user_code
from benchmarks.metrics.base import CorpusMetric, PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.registry import parse_metric
from benchmarks.store.fingerprint import code_digest, digest
from benchmarks.store.held import PREFIX, held
from benchmarks.store.own_code import own_digest, own_module, split_label
from benchmarks.store.store import Store
from benchmarks.suite import Data
from benchmarks.user_code import is_first_party
from m2l.audio import resample, to_mono

Clips = Callable[[], Sequence[TrialClip]]


def runs_user_code(name: str) -> bool:
    """Whether a system is a class or a program that is not of this project.

    Raises:
        UnknownNameError: no such system.
    """
    return own_target(name) is not None or split_label(name)[1].startswith(("external-command:", PREFIX))


def code_of_system(name: str, options: Mapping[str, Any]) -> str:
    """Digest of the code that implements a system."""
    target = split_label(name)[1]
    return system_code(name, None if ":" in target else AUTOENCODERS.target(target), options)


def try_system(
    name: str, options: Mapping[str, Any], seed: int, clips: Clips, store: Store | None, further: Clips = tuple
) -> Trial:
    """Try a system that is a user's class or program; see `try_user_code`."""
    target = split_label(name)[1]
    own = own_target(name)

    def declared(system: Any) -> bool:
        given = getattr(getattr(system, "system", system), "spec", None)
        if isinstance(given, Mapping):
            return "version" in given or "weights" in given
        return bool(system.spec.version != "1" or (own and system.spec.weights_digest is not None))

    found = held(target.removeprefix(PREFIX)) if target.startswith(PREFIX) else None
    return try_user_code(
        f"object {found.label}" if found else target,
        found.label if found else label_of(target),
        own_module(own)[0] if own else None,
        lambda: create_autoencoder(name, **options),
        lambda system, audio, rate: reconstruct_one(system, audio, rate, seed, None),
        clips,
        code=lambda: code_of_system(name, options),
        store=store,
        declared=declared,
        further=further,
        unseen=found.remark if found else "",
    )


def try_metric(metric: PairMetric, clips: Clips, store: Store | None) -> Trial:
    """Try a user's metric on a clip and the same clip a little quieter and later; see `try_user_code`."""
    module, attribute = own_module(metric.own)

    def make() -> PairMetric:
        made = parse_metric(metric.given)
        assert isinstance(made, PairMetric)
        return made

    def use(made: PairMetric, audio: np.ndarray, rate: int) -> None:
        clip_score(made, np.float32(0.9) * np.roll(audio, 1, axis=-1), audio, rate)

    found = try_user_code(
        metric.given,
        metric.name,
        module,
        make,
        use,
        clips,
        code=lambda: digest([own_digest(module), attribute]),
        store=store,
        declared=lambda made: made.version != "1",
    )
    code = [own_digest(module), attribute, code_digest("benchmarks.metrics.clip_score")]
    return replace(found, spec={"code": code})


def code_of_distance(metric: CorpusMetric) -> str:
    """Digest of the code behind a distance of corpora."""
    ours = code_digest("benchmarks.statistics.corpus")
    module = metric.distance.rpartition(":")[0]
    return digest([ours, own_digest(module)]) if module and not is_first_party(module) else ours


def try_embedder(name: str, device: str, clips: Clips, store: Store | None) -> Trial | None:
    """Try an embedder from elsewhere; its trial's `spec` identifies it. None for one of this project."""
    target = own_embedder(name)
    if target is None:
        return None
    module = own_module(target)[0]
    found = try_user_code(
        name,
        embedder_label(name),
        module,
        lambda: create_embedder(name, device=device),
        lambda made, audio, rate: made.embed(resample(to_mono(audio), rate, made.sample_rate, exact=False)[0]),
        clips,
        code=lambda: digest([own_digest(module), embedder_label(target)]),
        store=store,
        declared=lambda made: "version" in made.spec,
    )
    return replace(found, spec={"spec": dict(found.spec), "entry": embedder_spec(name), "code": own_digest(module)})


def trial_clips(
    clips: Sequence[Clip], data: Data | None = None, count: int = CLIPS, *, stereo: bool = False
) -> list[TrialClip]:
    """The first `count` clips that can be measured; generated notes if there are none.

    Args:
        clips: to choose from.
        data: their limits.
        count: how many.
        stereo: as a metric that sees stereo is given them.
    """
    found: list[TrialClip] = []
    for clip in clips[: 4 * count]:
        try:
            audio, rate = clip.load()
        except (OSError, ValueError, RuntimeError):
            continue  # is left out, with its reason
        if data is not None:
            limits = Limits.of(data, stereo=stereo)
            if unusable(audio, rate, limits) is not None:
                continue
            audio = to_mono(audio) if limits.channels == "mono" else audio
        found.append((clip.id, audio, int(rate)))
        if len(found) == count:
            break
    return found or [("of generated notes", notes(1, SECONDS, 44_100), 44_100)]
