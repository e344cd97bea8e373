"""Units of an external system: like `reconstruct`, but keyed by the files of its clips, one digest each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.autoencoders.own.external import External
from benchmarks.harness.units import Unit, fetch
from benchmarks.store.store import Result, Store
from benchmarks.weights.find import file_sha256

if TYPE_CHECKING:
    from benchmarks.evaluation.plan import SystemRow


def with_files(row: SystemRow, system: External, clip_ids: Sequence[str]) -> SystemRow:
    """The row with units that read files, and whose keys change when the files of their clips do.

    Args:
        row: of the external system.
        system: the folder.
        clip_ids: all clips of the data set, those that are not measured too.
    """
    found = system.matches(clip_ids)
    units = []
    for unit in row.units:
        clips = [clip.id for clip in unit.inputs[0].payload[0]]
        files = {
            clip_id: (found.files[clip_id], file_sha256(system.path_of(found.files[clip_id])))
            for clip_id in clips
            if clip_id in found.files
        }
        refused = {clip_id: found.refused[clip_id] for clip_id in clips if clip_id not in files}
        digests = {clip_id: [digest] for clip_id, (_, digest) in files.items()}
        units.append(
            replace(
                unit,
                target="benchmarks.evaluation.external_units:reconstruct",
                spec=unit.spec | {"files": digests | refused},
                payload=(str(system.path.resolve()), system.tolerance, system.resample, files, refused),
            )
        )
    return replace(row, units=tuple(units))


def reconstruct(unit: Unit, store: Store) -> Result:
    """Read the files of a unit's clips.

    Payload: folder, tolerance, resample, file and digest by clip, and why the other clips have no file.

    Raises:
        RuntimeError: files changed since the run was planned: their numbers would get another's key.
    """
    path, tolerance, resample, files, refused = unit.payload
    source = fetch(unit.inputs[0], store)
    system = External(path, tolerance=tolerance, resample=resample)
    arrays: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    for clip_id, audio in source.arrays.items():
        try:
            if clip_id in refused:
                raise ValueError(refused[clip_id])
            file, digest = files[clip_id]
            if not (system.path_of(file)).is_file() or file_sha256(system.path_of(file)) != digest:
                raise RuntimeError(f"the file of clip {clip_id!r} changed during the run; run again")
            rate = source.meta["sample_rates"][clip_id]
            arrays[clip_id] = system.reconstruction(file, audio, rate)
        except ValueError as error:
            text: Any = str(error).splitlines()[0]
            failures[clip_id] = text if len(text) <= 200 else text[:197] + "..."
    return Result({"failures": failures, "bitrates": {}, "facts": {"n_parameters": None}}, arrays)
