"""A system as a row of a table: what it is, the units that run it, or why it cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.autoencoders import AUTOENCODERS, own_target
from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.autoencoders.names import KINDS, label_of
from benchmarks.autoencoders.own.external import External
from benchmarks.evaluation.jobs import ReadFilesJob
from benchmarks.harness.units import Unit
from benchmarks.registry import load_target, parameters_of
from benchmarks.store.own_code import import_own, split_label
from benchmarks.user_code import UserCodeError
from m2l.io.digest import known_sha256

#: Ends the name of a unit that runs a system on clips with all their channels.
STEREO = " (stereo)"


@dataclass(frozen=True)
class SystemRow:
    """A system at a number of denoising steps, with the units that run it; or why it cannot run.

    In a dry run a system that is not available has units all the same: they stand in for its own.

    Attributes:
        units: one per group of clips.
        stereo: the same on clips with all their channels, where a suite has both views; else empty.
    """

    name: str
    spec: AutoencoderSpec | None
    reason: str | None = None
    n_steps: int | None = None
    units: tuple[Unit, ...] = ()
    stereo: tuple[Unit, ...] = ()
    error: UserCodeError | None = None
    remark: str | None = None

    @property
    def label(self) -> str:
        """Label (or name) with the number of steps, where that is not the system's default."""
        default = self.spec.n_steps if self.spec else None
        label = label_of(self.name)
        return label if self.n_steps in (None, default) else f"{label}@{self.n_steps}"


def with_files(row: SystemRow, system: External, clip_ids: Sequence[str]) -> SystemRow:
    """The row with units that read files, and whose keys change when the files of their clips do.

    Args:
        row: of the external system.
        system: the folder.
        clip_ids: all clips of the data set, those that are not measured too.
    """
    found = system.matches(clip_ids)

    def reading(unit: Unit) -> Unit:
        clips = [clip.id for clip in unit.inputs[0].payload.clips]
        files = {
            clip_id: (found.files[clip_id], known_sha256(system.path_of(found.files[clip_id])))
            for clip_id in clips
            if clip_id in found.files
        }
        refused = {clip_id: found.refused[clip_id] for clip_id in clips if clip_id not in files}
        digests = {clip_id: [digest] for clip_id, (_, digest) in files.items()}
        return replace(
            unit,
            target="benchmarks.evaluation.stages:read_files",
            spec=unit.spec | {"files": digests | refused},
            payload=ReadFilesJob(str(system.path.resolve()), system.tolerance, system.resample, files, refused),
        )

    return replace(row, units=tuple(map(reading, row.units)), stereo=tuple(map(reading, row.stereo)))


def accepts_device(name: str) -> bool:
    """Whether a system can be told where to run."""
    _, target = split_label(name)
    kind, colon, _ = target.partition(":")
    if colon and kind in KINDS:
        factory = load_target(KINDS[kind][0])
    else:
        own = own_target(name)
        factory = import_own(own or target) if own or colon else AUTOENCODERS.load(target)
    return "device" in parameters_of(factory)
