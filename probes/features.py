"""The feature stage: clips to time-averaged vectors, kept in the store under content keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.autoencoders.names import label_of, system_code
from benchmarks.datasets import Clip
from benchmarks.errors import UsageError
from benchmarks.evaluation.clips import seconds_of
from benchmarks.evaluation.jobs import Limits, LoadJob
from benchmarks.evaluation.own_plan import trial_clips
from benchmarks.evaluation.stages import reason_of
from benchmarks.evaluation.trial import Trial, constructed, try_user_code, watching
from benchmarks.harness.units import STAND_IN, Unit, fetch, resident
from benchmarks.store.fingerprint import code_digest, derive_seed, digest, library_versions, module_digest
from benchmarks.store.held import PREFIX, held
from benchmarks.store.own_code import own_digest, own_module, split_label
from benchmarks.store.reads import not_recording
from benchmarks.store.store import Result, Store
from probes.axes import axis_problem
from probes.deformations import Deformation, parse_deformation
from probes.representations import REPRESENTATIONS, accepts_device, create_representation, own_target, split_name

#: Raised when what the stage writes changes without its code showing it.
VERSION = 1
CLIPS_PER_UNIT = 24
#: Generated audio is mixed down and stored once for all representations; nothing is too short or too quiet.
LIMITS = Limits("mono", min_seconds=0.0, min_sample_rate=1, silence_rms=0.0)


@dataclass(frozen=True)
class FeatureJob:
    """Payload of `extract`: a representation and its options, clips, and what is done to their audio first."""

    name: str
    options: Mapping[str, Any]
    clips: tuple[Clip, ...]
    deformation: str | None = None


class FeaturePlan:
    """Units that compute one representation of clips.

    Args:
        name: representation, without output.
        options: passed to its factory.
        device: where neural networks run.
        clips: a user's representation is tried on the first ones.
        store: where earlier runs recorded what such a representation reads.

    Attributes:
        error: what a user's representation raised on every clip that was tried.
        remark: a line for stderr.

    Raises:
        UnknownNameError: no such representation.
        WeightsNotFoundError: its weights are missing; says how to get them.
        UserCodeError: a user's representation cannot be constructed.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any] | None = None,
        device: str = "cpu",
        clips: Sequence[Clip] = (),
        store: Store | None = None,
    ) -> None:
        self.name, self.options = name, dict(options or {})
        if device != "cpu" and accepts_device(name):
            self.options["device"] = device
        made: list[Any] = []
        self.local = name.startswith(PREFIX)
        self.tried = self._try(made, clips, store) if self.local or own_target(name) is not None else None
        self.error, self.remark = (self.tried.error, self.tried.remark) if self.tried else (None, None)
        self.representation: Any = made[0] if made else create_representation(name, **self.options)
        self.spec = self.representation.spec

    def _try(self, made: list[Any], clips: Sequence[Clip], store: Store | None) -> Trial:
        def make() -> Any:
            made.append(create_representation(self.name, **self.options))
            return made[0]

        found = held(self.name.removeprefix(PREFIX)) if self.local else None
        own = str(own_target(self.name)) + "load_model" * self.name.startswith("hear:")
        return try_user_code(
            f"object {found.label}" if found else self.name,
            label_of(self.name),
            None if found else own_module(own)[0],
            make,
            lambda representation, audio, rate: representation.extract(audio, rate),
            lambda: trial_clips(clips),
            code=lambda: digest(_code_of(self.name)),
            store=store,
            declared=lambda representation: (
                representation.spec.version != "1" or representation.spec.weights is not None
            ),
            unseen=found.remark if found else "",
        )

    def identity(self) -> dict[str, Any]:
        """What decides the vectors, apart from the audio."""
        return {
            "version": VERSION,
            "representation": self.spec.to_dict(),
            "code": [*_code_of(self.name), code_digest("probes.deformations", "m2l.audio")],
            "libraries": library_versions(),
            "device": self.options.get("device", "cpu"),
            **({"read": self.tried.identity} if self.tried else {}),
        }

    def problem(self, clips: Sequence[Clip], store: Store, *, ask: bool = True) -> str | None:
        """Why the representation cannot be measured on clips: axes in the wrong order, files that are not clear.

        Args:
            clips: of one data set.
            store: where answers are kept.
            ask: whether to run the representation on a clip for an answer that the store lacks.
        """
        if hasattr(self.representation, "lookup"):
            check = getattr(self.representation, "check", None)
            return check(clips) if check is not None else None
        if _is_ours(self.name):
            return None
        return axis_problem(self.representation, self.identity(), clips, store, ask=ask)

    def check_deformation(self, deformation: str | None) -> None:
        """Refuse to deform what is no audio.

        Raises:
            UsageError: the features were computed elsewhere.
        """
        if deformation and hasattr(self.representation, "lookup"):
            raise UsageError(f"{self.name}: features computed elsewhere cannot be deformed ({deformation})")

    def units(self, clips: Sequence[Clip], deformation: str | None = None) -> list[Unit]:
        """One unit per `CLIPS_PER_UNIT` clips, in order.

        Args:
            clips: of one data set.
            deformation: applied to the audio first; None leaves it.

        Raises:
            UsageError: a deformation of features that were computed elsewhere.
        """
        lookup = hasattr(self.representation, "lookup")
        self.check_deformation(deformation)
        found = []
        for start in range(0, len(clips), CLIPS_PER_UNIT):
            part = tuple(clips[start : start + CLIPS_PER_UNIT])
            manifest = [[clip.id, self._digest(clip) if lookup else clip.digest] for clip in part]
            spec = {**self.identity(), "clips": manifest, "deformation": deformation}
            generated = not lookup and all(clip.source.startswith("generated") for clip in part)
            found.append(
                Unit(
                    "features",
                    self.name,
                    "probes.features:extract",
                    spec,
                    inputs=(load_unit(part),) if generated else (),
                    payload=FeatureJob(self.name, self.options, part, deformation),
                    amount=seconds_of(part),
                    group=digest(manifest),
                    watch=self.tried.watch if self.tried else None,
                    local=self.local,
                )
            )
        return found

    def _digest(self, clip: Clip) -> str:
        try:
            return str(self.representation.digest(clip))
        except FileNotFoundError:
            return "missing"


def stand_in_units(name: str, data: str, clips: Sequence[Clip]) -> tuple[Unit, ...]:
    """Units that count, in a dry run, a representation of clips where one of both is not available."""
    parts = [clips[start : start + CLIPS_PER_UNIT] for start in range(0, len(clips), CLIPS_PER_UNIT)]
    return tuple(
        Unit("features", name, "", {STAND_IN: [name, data, i]}, amount=seconds_of(part), group=f"{data}{i}")
        for i, part in enumerate(parts)
    )


def _is_ours(name: str) -> bool:
    """Whether a representation belongs to this project, whose tests check its axes."""

    head, colon, argument = split_name(name)[0].partition(":")
    if colon and head == "autoencoder":
        target = split_label(argument)[1]
        return ":" not in target and AUTOENCODERS.target(target).startswith("benchmarks.")
    if colon:
        return head == "music2latent"
    return REPRESENTATIONS.target(head).startswith(("probes.", "benchmarks."))


def _code_of(name: str) -> list[str]:
    """Digest of the code behind a representation: its module, what that imports of this project or beside it."""
    name, _ = split_name(name)
    head, _, argument = name.partition(":")
    own = own_target(name)
    if head == "autoencoder":
        return [code_digest("probes.representations.user"), _autoencoder_code(argument)]
    if name.startswith(PREFIX):
        return [code_digest("probes.representations.object"), held(argument).digest]
    if own is not None:
        module, attribute = own_module(own if head != "hear" else f"{own}load_model")
        try:
            return [code_digest("probes.representations.user"), own_digest(module), attribute]
        except ModuleNotFoundError:
            return ["no source"]
    if head == "music2latent":
        return [code_digest("probes.representations.music2latent")]
    target = REPRESENTATIONS.target(name) if ":" not in name else name
    return [code_digest("probes.representations.user" if head == "npy" else target.partition(":")[0])]


def _autoencoder_code(name: str) -> str:
    """Digest of the code behind an autoencoder: without it a changed class would keep its old features."""

    target = split_label(name)[1]
    return system_code(name, None if ":" in target else AUTOENCODERS.target(target))


def load_unit(clips: Sequence[Clip]) -> Unit:
    """The unit that renders generated clips once for all representations."""
    spec = {
        "code": [module_digest("benchmarks.evaluation.stages"), code_digest("m2l.audio")],
        "libraries": library_versions(),
        "clips": [[clip.id, clip.digest] for clip in clips],
        "limits": asdict(LIMITS),
    }
    return Unit(
        "load",
        clips[0].dataset,
        "benchmarks.evaluation.stages:load",
        spec,
        payload=LoadJob(tuple(clips), LIMITS),
        amount=seconds_of(clips),
        group=digest(spec["clips"]),
    )


def extract(unit: Unit, store: Store) -> Result:
    """Time-averaged vectors of a unit's clips.

    Payload: `FeatureJob`. Arrays: per output `(n_clips, dim)` float32,
    with NaN rows for clips that failed; `meta["failures"]` has the reasons.
    """
    job: FeatureJob = unit.payload
    clips = job.clips
    change = parse_deformation(job.deformation) if job.deformation else None
    loaded = fetch(unit.inputs[0], store) if unit.inputs else None
    vectors: dict[str, dict[str, np.ndarray]] = {}
    failures: dict[str, str] = {}
    again = False
    identity = digest([unit.spec.get(part) for part in ("representation", "code", "read")])
    with watching(unit, store):
        representation = resident(
            ("representation", job.name, repr(sorted(job.options.items())), identity),
            lambda: constructed(lambda: create_representation(job.name, **job.options)),
        )
        lookup = hasattr(representation, "lookup")
        for clip in clips:
            try:
                with not_recording():  # the clip's digest is in the key
                    given: Any = representation.lookup(clip) if lookup else _audio(clip, loaded, change)
            except (OSError, ValueError, RuntimeError) as error:
                failures[clip.id] = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                continue
            try:
                for output, frames in (given if lookup else representation.extract(*given)).items():
                    vectors.setdefault(output, {})[clip.id] = time_mean(frames)
            except (Exception, SystemExit) as error:
                failures[clip.id] = reason_of(error, unit, clip.id)
                again = unit.watch is not None
    arrays = {}
    for output, found in vectors.items():
        dims = {len(vector) for vector in found.values()}
        if len(dims) > 1:
            raise ValueError(f"{job.name}: output {output!r} has {sorted(dims)} features in different clips")
        missing = np.full(dims.pop(), np.nan, dtype=np.float32)
        arrays[output] = np.stack([found.get(clip.id, missing) for clip in clips])
    meta = {"ids": [clip.id for clip in clips], "failures": failures}
    return Result(meta | ({"again": True} if again else {}), arrays)


def _audio(clip: Clip, loaded: Result | None, change: Deformation | None) -> tuple[np.ndarray, int]:
    if loaded is None:
        audio, rate = clip.load()
    elif clip.id in loaded.arrays:
        audio, rate = loaded.arrays[clip.id], int(loaded.meta["sample_rates"][clip.id])
    else:
        raise ValueError(loaded.meta["failures"].get(clip.id, "no audio"))
    if change is not None:
        audio = change.apply(audio, rate, derive_seed(0, clip.id))
    return audio, rate


def time_mean(frames: np.ndarray) -> np.ndarray:
    """(n_frames, dim) -> (dim,) float32, summed in float64.

    Raises:
        ValueError: no frames, another shape, no real numbers, or values that are not finite in float32.
    """
    frames = np.asarray(frames)
    if frames.ndim != 2 or 0 in frames.shape:
        raise ValueError(f"features have shape {frames.shape}, expected (n_frames, dim)")
    if frames.dtype.kind not in "fiub":
        raise ValueError(f"features have type {frames.dtype}, expected real numbers")
    if not np.isfinite(frames).all():
        raise ValueError(f"{int((~np.isfinite(frames)).sum())} feature values are not finite")
    mean = frames.mean(axis=0, dtype=np.float64)
    beyond = int((np.abs(mean) > np.finfo(np.float32).max).sum())
    if beyond:
        raise ValueError(f"{beyond} feature values are beyond float32")
    return mean.astype(np.float32)


def gather(units: Sequence[Unit], store: Store, output: str | None) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """The feature matrix of several units.

    Args:
        units: of one representation.
        store: where their results are.
        output: name of the output; None takes the representation's first.

    Returns:
        (n_items, dim) features with NaN rows for failed clips, clip ids, and reasons by clip id.

    Raises:
        ValueError: no clip succeeded, no such output, or units differ in dimension.
    """
    results = [fetch(unit, store) for unit in units]
    wanted = output or units[0].spec["representation"]["outputs"][0]
    ids = [clip_id for result in results for clip_id in result.meta["ids"]]
    failures = {clip: why for result in results for clip, why in result.meta["failures"].items()}
    dims = {result.arrays[wanted].shape[1] for result in results if wanted in result.arrays}
    if not dims:
        known = sorted({name for result in results for name in result.arrays})
        reason = f"outputs: {', '.join(known)}" if known else next(iter(failures.values()), "no clips")
        raise ValueError(f"{units[0].name}: no features {wanted!r} ({reason})")
    if len(dims) > 1:
        raise ValueError(f"{units[0].name}: {wanted!r} has {sorted(dims)} features in different clips")
    dim = dims.pop()
    rows = [
        result.arrays.get(wanted, np.full((len(result.meta["ids"]), dim), np.nan, dtype=np.float32))
        for result in results
    ]
    return np.concatenate(rows), ids, failures
