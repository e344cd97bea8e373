"""Units of an external system: like `reconstruct`, but keyed by the files of its clips, one digest each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.autoencoders.external import External
from benchmarks.cache import Result, Store
from benchmarks.units import Unit, fetch

if TYPE_CHECKING:
    from benchmarks.plan import SystemRow


def with_files(row: SystemRow, system: External) -> SystemRow:
    """The row with units that read files, and whose keys change when the files of their clips do."""
    units = []
    for unit in row.units:
        clips = [clip.id for clip in unit.inputs[0].payload[0]]
        files = {clip_id: system.identity(clip_id) for clip_id in clips}
        units.append(
            replace(
                unit,
                target="benchmarks.external_units:reconstruct",
                spec=unit.spec | {"files": files},
                payload=(str(system.path.resolve()), system.tolerance, system.resample, files),
            )
        )
    return replace(row, units=tuple(units))


def reconstruct(unit: Unit, store: Store) -> Result:
    """Read the files of a unit's clips. Payload: folder, tolerance, resample, digests of files by clip.

    Raises:
        RuntimeError: files changed since the run was planned: their numbers would get another's key.
    """
    path, tolerance, resample, files = unit.payload
    source = fetch(unit.inputs[0], store)
    system = External(path, tolerance=tolerance, resample=resample)
    arrays: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    for clip_id, audio in source.arrays.items():
        if system.identity(clip_id) != files[clip_id]:
            raise RuntimeError(f"the file of clip {clip_id!r} changed during the run; run again")
        try:
            rate = source.meta["sample_rates"][clip_id]
            arrays[clip_id] = system.reconstruction(clip_id, audio, rate)
        except ValueError as error:
            text: Any = str(error).splitlines()[0]
            failures[clip_id] = text if len(text) <= 200 else text[:197] + "..."
    return Result({"failures": failures, "bitrates": {}, "facts": {"n_parameters": None}}, arrays)
