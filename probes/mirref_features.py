"""Features where mir_ref reads them: `DATA/DATASET/embeddings/FEATURE/`, by the path of each track's audio."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from benchmarks.datasets import Clip
from benchmarks.datasets.clip_files import folded
from benchmarks.store.store import Store
from m2l.io.atomic import write_atomic
from probes.features import FeaturePlan, gather
from probes.mirref import MirRefError, feature_name
from probes.representations import split_name
from probes.request import CHANCE
from probes.runner import ProbeRun
from probes.tasks.base import TaskData


def export_features(
    found: ProbeRun, folder: Path, store: str | None, device: str = "cpu"
) -> Iterator[tuple[Path, str | None]]:
    """Write the features of a run, (dim,) float32 each, those of deformed test clips as `…_deform_0.npy` beside them.

    `npy:folder/DATASET/embeddings/FEATURE` reads them, too.

    Args:
        found: the run.
        folder: mir_ref's folder of data sets.
        store: of the run.
        device: of the run.

    Yields:
        Paths, and for a clip without features why it has no file.

    Raises:
        MirRefError: two tracks would share a file, as their paths differ in the suffix only.
    """
    request = found.request
    for representation in request.representations:
        if representation == CHANCE:
            continue
        name, output = split_name(representation)
        plan = FeaturePlan(name, dict(request.representation_options.get(name, {})), device)
        for task, data in found.tasks.items():
            target = folder / data.info.dataset / "embeddings" / feature_name(representation, request)
            paths = track_paths(data.clips)
            tested = tested_clips(data, request.protocol.scheme)
            for number, deformation in enumerate((None, *request.deformations)):
                clips = data.clips if deformation is None else tested
                try:
                    features, _, failures = gather(plan.units(clips, deformation), Store(store), output)
                except (KeyError, ValueError) as error:
                    cell = found.cell(representation, task)
                    yield target, (cell.reason if cell is not None else None) or str(error)
                    continue
                suffix = "" if deformation is None else f"_deform_{number - 1}"
                for clip, vector in zip(clips, features, strict=True):
                    path = target / f"{paths[clip.id]}{suffix}.npy"
                    if clip.id in failures or not np.isfinite(vector).all():
                        yield path, failures.get(clip.id, "features are not finite")
                        continue
                    file = io.BytesIO()
                    np.save(file, vector)
                    write_atomic(path, file.getvalue())
                    yield path, None


def tested_clips(data: TaskData, scheme: str) -> list[Clip]:
    """The clips that some split tests, in the order of the task: those whose deformed features are computed."""
    tested = sorted({clip_id for split in data.splits(scheme) for clip_id in split.test})
    return [data.clips[row] for row in sorted(data.rows(tested).tolist())]


def track_paths(clips: Sequence[Clip]) -> dict[str, str]:
    """Clip id -> path of its audio without suffix, below the deepest folder that holds all of them.

    Clips that are no files are named by their ids.

    Raises:
        MirRefError: two clips would have one path.
    """
    files = {clip.id: str(getattr(clip.loader, "path", "")) for clip in clips}
    paths = {clip_id: clip_id for clip_id in files}
    if all(files.values()):
        common = os.path.commonpath([os.path.dirname(file) for file in files.values()])
        paths = {i: PurePath(os.path.relpath(f, common)).with_suffix("").as_posix() for i, f in files.items()}
    owners: dict[str, str] = {}
    for clip_id, path in paths.items():
        other = owners.setdefault(folded(path), clip_id)
        if other != clip_id:
            raise MirRefError(f"clips {other!r} and {clip_id!r} would share the file {path}.npy")
    return paths
