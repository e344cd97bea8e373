"""Table 1: representations in rows, tasks in groups of columns, published figures beside them.

`build(suite, store, executor, options)` is what `m2l-bench tables --only table1` calls. A suite's [table1]
says what to measure; see `request_from`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any

import m2l
from benchmarks.evaluation.cells import Cell, Column, PublishedRow, Row
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.fingerprint import library_versions
from benchmarks.store.processor import processor
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError
from benchmarks.tables.best import verdict_lines
from benchmarks.tables.reference import published_rows
from benchmarks.tables.table import TableResult
from probes.protocol import MIR_REF_BATCH, get_protocol, seeds_from
from probes.representations import row_name
from probes.request import CHANCE, Request
from probes.runner import ProbeCell, ProbeRun, all_comparisons, run
from probes.tasks.base import TaskInfo

TITLES = {
    "music2latent": "Music2Latent features",
    "music2latent@latents": "Music2Latent latents",
    "music2latent-mini": "Music2Latent (mini) features",
    "music2latent-mini@latents": "Music2Latent (mini) latents",
    "music2latent-random": "Music2Latent, random weights",
    "music2latent-random@latents": "Music2Latent latents, random weights",
    "musicnn-msd": "MusiCNN-MSD",
    "mtt-musicnn": "MusiCNN-MTT",
    "vggish": "VGGish",
    "crepe": "CREPE (tiny)",
    "clmr": "CLMR",
    "mert-v1-95m": "MERT-v1-95M",
    "mel": "log-mel mean",
    "mfcc": "MFCC mean",
    "chroma": "chroma mean",
    CHANCE: "chance (best constant)",
}

#: Metric -> heading in Table 1, and what exactly it is.
METRIC_TITLES = {
    "roc_auc": ("AUC-ROC", "macro mean over tags"),
    "average_precision": ("AUC-PR", "average precision, macro mean over tags"),
    "weighted_micro": ("weighted", 'MIREX key score, mean over tracks (Table 1\'s "Micro Acc.")'),
    "weighted_macro": ("weighted macro", 'MIREX key score, mean over keys (Table 1\'s "Macro Acc.")'),
    "accuracy_micro": ("accuracy", "plain accuracy of keys"),
    "accuracy_macro": ("accuracy macro", "plain accuracy, mean over keys"),
    "f1_micro": ("micro F1", ""),
    "f1_macro": ("macro F1", ""),
    "r2": ("R²", "share of the variance explained, mean over values"),
    "pearson": ("Pearson", "correlation, mean over values"),
}

#: Columns of the published Table 1, by their keys in reference.json.
PUBLISHED_COLUMNS = (
    ("magnatagatune/auc_roc", "MagnaTagATune AUC-ROC"),
    ("magnatagatune/auc_pr", "MagnaTagATune AUC-PR"),
    ("beatport/micro_accuracy", "Beatport Micro Acc."),
    ("beatport/macro_accuracy", "Beatport Macro Acc."),
    ("tinysol-pitch-class/micro_f1", "TinySOL pitch class Micro F1"),
    ("tinysol-pitch-class/macro_f1", "TinySOL pitch class Macro F1"),
    ("tinysol-instrument/micro_f1", "TinySOL instrument Micro F1"),
    ("tinysol-instrument/macro_f1", "TinySOL instrument Macro F1"),
)

#: Keys of a suite's [table1].
KEYS = (
    "tasks",
    "representations",
    "protocol",
    "seeds",
    "task_options",
    "representation_options",
    "deformations",
    "note",
)


def request_from(section: Mapping[str, Any], seed: int = 0) -> Request:
    """The request of a suite's [table1].

    Keys: `tasks` and `representations` (lists of names), `protocol` (default "mir_ref-1"), `seeds` (how
    many, default 5), `task_options` and `representation_options` (tables by name), `deformations`, `note` (a line
    below the table).

    Raises:
        SuiteError: an unknown or missing key, or a value of the wrong type.
        UnknownNameError: no such protocol.
    """
    for key in section:
        if key not in KEYS:
            raise SuiteError(f"unknown key table1.{key}; known: {', '.join(KEYS)}")
    for key in ("tasks", "representations"):
        if not isinstance(section.get(key), list) or not section[key]:
            raise SuiteError(f"table1.{key} must be a list of names, got {section.get(key)!r}")
    seeds = section.get("seeds", 5)
    if not isinstance(seeds, int) or seeds < 1:
        raise SuiteError(f"table1.seeds must be a number of seeds, got {seeds!r}")
    return Request(
        tasks=tuple(section["tasks"]),
        representations=tuple(section["representations"]),
        protocol=get_protocol(section.get("protocol", "mir_ref-1")),
        seeds=tuple(seeds_from(seed, seeds)),
        task_options=section.get("task_options", {}),
        representation_options=section.get("representation_options", {}),
        deformations=tuple(section.get("deformations", ())),
    )


def build(suite: Suite, store: Store, executor: Executor, options: RunOptions) -> tuple[TableResult, RunReport]:
    """Measure what is missing and return Table 1.

    Raises:
        SuiteError: the suite has no [table1], or it is wrong.
        UnknownNameError: it names an unknown task, representation or protocol.
    """
    if suite.table1 is None:
        raise SuiteError(f"suite {suite.name!r} has no [table1]")
    request = request_from(suite.table1, suite.seed)
    found = run(request, store, executor, options)
    for line in found.warnings:
        print(f"warning: {line}", file=sys.stderr)
    title, note = suite.title or suite.name, suite.table1.get("note", "")
    return table_of(found, suite.name, title, note, published=suite.published), found.report


def table_of(found: ProbeRun, suite: str, title: str, note: str = "", *, published: bool = False) -> TableResult:
    """The table of a run: values in percent, mean over seeds, interval over test items.

    Args:
        found: the run.
        suite: name of the results.
        title: what was measured, for the caption.
        note: a line below the table.
        published: show published figures; not beside a part of the data, which does not compare with them.
    """
    request = found.request
    columns = [
        Column(
            f"{name}/{metric}",
            f"{info.title} {METRIC_TITLES[metric][0]}",
            higher_is_better=True,
            digits=1,
            note=METRIC_TITLES[metric][1],
        )
        for name, info in found.infos.items()
        for metric in info.metrics
    ]
    rows = []
    for representation in request.representations:
        cells: dict[str, Cell] = {}
        for name, info in found.infos.items():
            cells |= to_cells(found.cell(representation, name), name, info)
        for extra in request.protocol.probes[1:]:
            for name, info in found.infos.items():
                cell = found.cell(representation, name, extra)
                if cell is not None and cell.probe == extra:
                    main = cells[f"{name}/{info.metrics[0]}"]
                    others = dict(main.details.get("other_probes", {}))
                    others[extra] = {metric: 100 * s.mean for metric, s in cell.scores.items()}
                    if cell.reason is not None:
                        others[extra] = {"reason": cell.reason}
                    details = {**main.details, "other_probes": others}
                    cells[f"{name}/{info.metrics[0]}"] = dataclasses.replace(main, details=details)
        rows.append(
            Row(
                row_name(representation),
                cells,
                title=_title(representation),
                metadata=_metadata(found, representation),
                note=_contamination(found, representation),
            )
        )
    n_seeds = len(request.seeds)
    notes = [
        *([f"Only the first {found.seconds:g} s of each clip."] if found.seconds else []),
        *(
            [
                f"Limit {found.limit}: the first clips of train, validation and test each, and of every class at least "
                "one; not comparable with results on all of the data."
            ]
            if found.limit
            else []
        ),
        f"Percent. {_protocol_note(request)}; mean of {n_seeds} seeds, "
        f"[{100 * request.level:g} % interval over groups of test items: jackknife, on Wilson's scale]; "
        "standard deviations over seeds are in the JSON. Pairs are compared on each task's first metric.",
        *_batch_note(found),
        *(
            f"{info.title}: {_sizes(found, name)}; {info.license}."
            for name, info in found.infos.items()
            if name in found.tasks
        ),
        *([note] if note else []),
        *found.warnings,
    ]
    comparisons = all_comparisons(found)
    part = f"; a part of the data, limit {found.limit}" if found.limit else ""
    part += f"; the first {found.seconds:g} s of each clip" if found.seconds else ""
    table = TableResult(
        name="table1",
        title=f"Table 1. Probing of representations ({title}{part})",
        suite=suite,
        columns=columns,
        rows=rows,
        published=[_own_data(row) for row in published_rows("table1")] if published and not part else [],
        published_columns=[Column(key, text, True, 1) for key, text in PUBLISHED_COLUMNS],
        notes=notes,
        comparisons=comparisons,
        provenance={
            "m2l": m2l.__version__,
            "protocol": request.protocol.to_dict(),
            "seeds": list(request.seeds),
            "tasks": {name: _task_record(found, name) for name in found.infos},
            "libraries": library_versions(),
            "processor": processor(),
            **({"limit": found.limit} if found.limit else {}),
            **({"seconds": found.seconds} if found.seconds else {}),
        },
    )
    return dataclasses.replace(table, notes=[*notes, *verdict_lines(table, request.level)])


def _own_data(row: PublishedRow) -> PublishedRow:
    """Name Table 1's data: a source is described once for all tables, with the data of Table 2."""
    source = row.source.partition("; data:")[0]
    return dataclasses.replace(row, source=f"{source}; data: MagnaTagATune, Beatport, TinySOL, under mir_ref")


def to_cells(cell: ProbeCell | None, task: str, info: TaskInfo) -> dict[str, Cell]:
    """Table cells of one task, which the request calls `task`: value and interval in percent."""
    keys = {metric: f"{task}/{metric}" for metric in info.metrics}
    if cell is None or cell.reason is not None:
        reason = cell.reason if cell is not None else "not measured"
        return {key: Cell(reason=reason) for key in keys.values()}
    return {
        key: Cell(
            value=100 * cell.scores[metric].mean,
            n=cell.n_test,
            low=_percent(cell.scores[metric].low),
            high=_percent(cell.scores[metric].high),
            failures=cell.failures,
            details={
                "std": 100 * cell.scores[metric].std,
                "per_seed": [100 * value for value in cell.scores[metric].per_seed],
                "n_groups": cell.n_groups,
                "probe": cell.probe,
                "contaminated": cell.contaminated,
                **cell.details,
            },
        )
        for metric, key in keys.items()
    }


def _metadata(found: ProbeRun, representation: str) -> dict[str, Any]:
    spec = found.specs.get(representation)
    return {} if spec is None else spec.to_dict()


def _contamination(found: ProbeRun, representation: str) -> str:
    """Which tasks' data the representation has seen in training."""
    seen = {cell.task for cell in found.cells if cell.representation == representation and cell.contaminated}
    return f"trained on {', '.join(found.infos[name].dataset for name in sorted(seen))}" if seen else ""


def _protocol_note(request: Request) -> str:
    kinds = {"mlp": "MLP [256, 128]", "linear": "linear probe", "knn": "k nearest neighbors"}
    return f"Protocol {request.protocol.name}, {kinds[request.protocol.probes[0]]}"


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else 100 * share


def _batch_note(found: ProbeRun) -> list[str]:
    """Which batch sizes are not mir_ref's, and why."""
    chosen = found.request.protocol.batch_size
    titles: dict[int, list[str]] = {}
    for info in found.infos.values():
        titles.setdefault(chosen or info.batch_size, []).append(info.title)
    own = {size: names for size, names in titles.items() if size != MIR_REF_BATCH}
    sizes = "; ".join(f"{size} items for {', '.join(names)}" for size, names in own.items())
    why = f"{MIR_REF_BATCH:,}, with which mir_ref would leave nothing of their test parts"
    return [f"Batches of {sizes}, in place of {why}; those of the published table are not known."] if own else []


def _title(representation: str) -> str:
    return TITLES.get(representation, row_name(representation))


def _sizes(found: ProbeRun, name: str) -> str:
    """Items of each part, and the groups of those tested: "tested on 352 notes of 14 instruments"."""
    data = found.tasks[name]
    splits = data.splits(found.request.protocol.scheme)
    first, tested = splits[0], data.clusters.describe([i for split in splits for i in split.test])
    text = f"{len(first.train)}/{len(first.validation)}/{len(first.test)} train/validation/test"
    return f"{text if len(splits) == 1 else f'{len(splits)} folds, the first {text}'}, tested on {tested}"


def _task_record(found: ProbeRun, name: str) -> dict[str, Any]:
    info = found.infos[name]
    record = dataclasses.asdict(info)
    if name in found.tasks:
        data = found.tasks[name]
        record["data_sha256"] = data.digest
        record["splits_sha256"] = {s.name: s.digest for s in data.splits(found.request.protocol.scheme)}
        record["notes"] = list(data.notes)
    return record
