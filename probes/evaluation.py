"""`probes.evaluate`: a representation probed on tasks, from Python or a notebook; and Table 1 beside a suite's rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.autoencoders.names import KINDS, label_of
from benchmarks.compare.evaluate import names_of
from benchmarks.compare.evaluated import Evaluated
from benchmarks.errors import UsageError
from benchmarks.harness.base import Executor
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.own_code import split_label
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError, load_suite
from benchmarks.tables.table import TableResult
from probes.protocol import get_protocol, seeds_from
from probes.representations import create_representation, list_representations, row_name
from probes.representations.user import LATENTS
from probes.request import CHANCE, Request
from probes.runner import ProbeRun, run
from probes.table1 import request_from, table_of

if TYPE_CHECKING:
    import pandas

#: What stands before the name of an autoencoder whose features or latents are probed.
_AUTOENCODER = "autoencoder:"


@dataclass(frozen=True, repr=False)
class Probed(Evaluated):
    """What `probes.evaluate` returns; scores are percent, as in Table 1.

    Attributes:
        found: all cells with predictions and replicates.
    """

    found: ProbeRun | None = None

    @property
    def scores(self) -> pandas.DataFrame:
        """One row per representation, task, probe, metric and seed."""
        import pandas

        assert self.found is not None
        rows = [
            {"system": row_name(cell.representation), "task": cell.task, "probe": cell.probe, "metric": metric}
            | {"deformation": cell.deformation or "", "seed": seed, "value": 100 * value, "n_test": cell.n_test}
            for cell in self.found.cells
            for metric, score in cell.scores.items()
            for seed, value in zip(self.found.request.seeds, score.per_seed, strict=False)
        ]
        return pandas.DataFrame(rows)

    @property
    def predictions(self) -> pandas.DataFrame:
        """One row per representation, task, seed, test item and label: target and prediction of the main probe."""
        import pandas

        assert self.found is not None
        frames = [_predictions(self.found, cell) for cell in self.found.cells]
        return pandas.concat([one for one in frames if len(one)] or frames[:1], ignore_index=True)


def _predictions(found: ProbeRun, cell: Any) -> pandas.DataFrame:
    import pandas

    columns = ["system", "task", "seed", "clip", "group", "label", "target", "prediction"]
    if cell.predictions is None or cell.probe != found.request.protocol.probes[0] or cell.deformation:
        return pandas.DataFrame(columns=columns)
    data = found.tasks[cell.task]
    splits = data.splits(found.request.protocol.scheme)
    ids = [clip for split in splits for clip in split.test if clip not in cell.left_out]
    targets = data.targets[data.rows(ids)]
    labels = data.info.labels
    wide = targets if targets.ndim == 2 else np.eye(len(labels), dtype=np.int64)[targets]
    seeds, items, names = cell.predictions.shape
    return pandas.DataFrame(
        {
            "system": row_name(cell.representation),
            "task": cell.task,
            "seed": np.repeat(found.request.seeds[:seeds], items * names),
            "clip": np.tile(np.repeat(ids, names), seeds),
            "group": np.tile(np.repeat([data.clusters.of.get(clip, clip) for clip in ids], names), seeds),
            "label": np.tile(labels, seeds * items),
            "target": np.tile(wide.ravel(), seeds),
            "prediction": cell.predictions.ravel(),
        }
    )


def evaluate(
    representation: Any,
    tasks: str | Sequence[str] | None = None,
    against: Any = ("mel", CHANCE),
    *,
    protocol: str = "mir_ref-1",
    seeds: int = 5,
    deformations: Sequence[str] = (),
    task_options: Mapping[str, Mapping[str, Any]] | None = None,
    spec: Mapping[str, Any] | None = None,
    limit: int = 0,
    workers: int | None = None,
    device: str = "cpu",
    store: str | Path | None = None,
    quiet: bool = False,
) -> Probed:
    """Probe a representation on tasks, beside others.

    Args:
        representation: an object with `extract(audio, sample_rate) -> (n_frames, dim)`; an autoencoder with
            `features` or `encode` (its features and latents are rows); or a name that `m2l-bench probe run` takes
            ("musicnn-msd", "music2latent-mini@latents"). A list, or a dictionary label -> one of these, probes
            several.
        tasks: names (`m2l-bench probe list tasks`), such as "synthetic-pitch" or "folder:PATH"; default the four
            synthetic ones.
        against: further rows, as `representation`; `[]` for none.
        protocol: "mir_ref-1" or "strict-1".
        seeds: how many probes are trained.
        deformations: also test on deformed clips: "noise:15", "mp3:64".
        task_options: options by task: `{"gtzan": {"root": "/data/gtzan"}}`.
        spec: of an autoencoder that has no `spec` and no `sample_rate`.
        limit: use the first so many clips of each part (0: all).
        workers: processes; default the CPUs that this process may use. An object runs in this one, on one thread.
        device: device of networks that are given by name; an object stays where it is.
        store: folder of kept results; default in the cache.
        quiet: print no progress to stderr.

    Returns:
        `.table`, `.cells`, `.scores`, `.predictions` and `.comparisons` are data frames, in percent; a notebook shows
        Table 1.

    Raises:
        UnknownNameError: no such task, representation or protocol.
        UserCodeError: the object fails on every clip that is tried; the message names the line.

    Example:
        >>> probes.evaluate(model, tasks="synthetic-pitch").table      # doctest: +SKIP
    """
    new, kept = names_of(representation, spec)
    if not new:
        raise UsageError("nothing to evaluate: give an object or a name")
    others, more = names_of(list(against) if isinstance(against, tuple) else against)
    names = [tasks] if isinstance(tasks, str) else list(tasks or _default_tasks())
    own = with_latents(new)
    rows = [*own, *others]
    request = Request(
        tasks=tuple(dict.fromkeys(names)),
        representations=tuple(dict.fromkeys(rows)),
        protocol=get_protocol(protocol),
        seeds=tuple(seeds_from(0, seeds)),
        deformations=tuple(deformations),
        task_options=task_options or {},
    )
    options = RunOptions(limit=limit, device=device, quiet=quiet, refuse_broken=True)
    with make_executor(workers=workers) as executor:
        found = run(request, Store(store), executor, options)
    table = table_of(found, "probe", ", ".join(info.title for info in found.infos.values()))
    failed = sorted({f"{done.stage} {done.name} failed: {done.error}" for done in found.report.failed.values()})
    said = [*found.warnings, *(item.remark for item in (*kept, *more) if item.remark), *failed]
    return Probed(table, [row_name(name) for name in own], found.report, said, (*kept, *more), found)


def _default_tasks() -> list[str]:
    section = load_suite("synthetic").table1 or {}
    return list(section["tasks"])


def representation_of(system: str) -> str:
    """The representation that probes an autoencoder given by name: one of the same name, else its features or latents.

    Raises:
        UsageError: files or a program, which encode nothing.
    """
    label, target = split_label(system)
    kind, colon, _ = target.partition(":")
    if colon and kind in ("external", "external-command"):
        raise UsageError(f"{label_of(system)}: Table 1 needs features or latents, which files and programs do not give")
    if target in list_representations() or (colon and kind in KINDS):
        return system
    return f"{label if label is not None else label_of(target)}={_AUTOENCODER}{target}"


def with_latents(names: Sequence[str]) -> list[str]:
    """The representations, each followed by its latents where these are a second output."""
    found = []
    for name in names:
        found.append(name)
        label, target = split_label(name)
        if "@" in target or target == CHANCE or not _has_latents(target):
            continue
        found.append(f"{target}@{LATENTS}" if label is None else f"{label}@{LATENTS}={target}@{LATENTS}")
    return found


def _has_latents(name: str) -> bool:
    try:
        outputs = create_representation(name).spec.outputs
    except (OSError, ImportError, ValueError, TypeError):  # the run meets it again, and says why
        return False
    return LATENTS in outputs[1:]


def compare_table1(
    suite: Suite,
    store: Store,
    executor: Executor,
    options: RunOptions,
    new: Sequence[str],
    baselines: Sequence[str] | None = None,
) -> tuple[TableResult, ProbeRun]:
    """Table 1 with the rows of a suite and those of autoencoders: `m2l-bench compare X --only 1`.

    Args:
        suite, store, executor, options: as for Table 1.
        new: autoencoders, by name.
        baselines: representations; default those of the suite's [table1].

    Raises:
        SuiteError: the suite has no [table1].
        UserCodeError: a user's class is broken; nothing is measured then.
    """
    if suite.table1 is None:
        raise SuiteError(f"suite {suite.name!r} has no [table1] to compare with")
    request = request_from(suite.table1, suite.seed)
    rows = with_latents([representation_of(name) for name in new])
    base = [name for name in (request.representations if baselines is None else baselines) if name not in rows]
    options.refuse_broken = True
    found = run(dataclasses.replace(request, representations=(*base, *rows)), store, executor, options)
    title = f"{', '.join(label_of(name) for name in new)} beside {suite.title or suite.name}"
    table = table_of(found, suite.name, title, suite.table1.get("note", ""), published=suite.published)
    own = {row_name(name) for name in rows}
    marked = [
        dataclasses.replace(row, title=f"**{row.title or row.name}**") if row.name in own else row for row in table.rows
    ]
    return dataclasses.replace(table, rows=marked), found
