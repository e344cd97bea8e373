"""Table 3 from scratch: train its three rows alike, export them, and measure them on a suite.

Every row is a run of `m2l.training` in a folder of its own; an interrupted run resumes when the same command runs
again, and a finished row is not trained twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.fingerprint import digest
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError, Table3
from benchmarks.tables.paper import build_table3
from benchmarks.tables.places import stem_for
from benchmarks.tables.table import TableResult
from m2l.config import create_config
from m2l.io.cache import cache_dir
from m2l.io.json_files import read_object
from m2l.training import SettingsError, Trainer, TrainingSettings
from m2l.training.export import export
from m2l.training.settings import from_dict, with_recipe

#: Titles of Table 3 by the end of the preset's name, in the paper's order.
TITLES = {"base": "Base Model", "attention": "+ Freq-wise Attention", "scaling": "+ Adaptive Freq Scaling"}
MINI = tuple(f"table3-mini-{row}" for row in TITLES)
FULL = tuple(f"table3-{row}" for row in TITLES)

#: Optimizer steps between checkpoints, at most.
CHECKPOINT_EVERY = 1000


@dataclass(frozen=True)
class Cost:
    """What is left of a row, as a rehearsal of two steps on real batches says."""

    preset: str
    steps_left: int
    seconds_per_step: float
    parameters: int
    peak_gb: float

    @property
    def hours(self) -> float:
        """Steps left times seconds per step."""
        return self.steps_left * self.seconds_per_step / 3600

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**dataclasses.asdict(self), "hours": self.hours, "title": title_of(self.preset)}

    def __str__(self) -> str:
        if not self.steps_left:
            return f"{self.preset}: {self.parameters / 1e6:.2f} M parameters, trained"
        return (
            f"{self.preset}: {self.parameters / 1e6:.2f} M parameters, {self.steps_left} steps x "
            f"{self.seconds_per_step:.3g} s = {self.hours:.3g} h, {self.peak_gb:.2g} GB"
        )


def title_of(preset: str) -> str:
    """The paper's title of a row; other presets go under their own name."""
    return next((title for row, title in TITLES.items() if preset.endswith(f"-{row}")), preset)


def row_settings(
    presets: Sequence[str], data: Sequence[str], given: Mapping[str, Any], *, cuda: bool = False
) -> dict[str, TrainingSettings]:
    """The settings of each row: its recipe, then `given`; alike in everything but the preset.

    Args:
        presets: rows.
        data: `PATH[=WEIGHT]` specifications.
        given: settings over the recipes' (`steps`, `batch_size`, …).
        cuda: whether float16 can be used; bfloat16 stands in where it cannot.

    Raises:
        SettingsError: for a value that makes no sense, or rows whose recipes differ in more than the preset.
        ConfigError: for an unknown preset.
    """
    rows: dict[str, TrainingSettings] = {}
    for preset in presets:
        create_config(preset)
        values = {**with_recipe(preset, given), "preset": preset, "data": tuple(data)}
        settings = from_dict(values)
        if settings.precision == "float16" and not cuda and "precision" not in given:
            settings = dataclasses.replace(settings, precision="bfloat16")
        rows[preset] = settings
    alike = {preset: dataclasses.replace(settings, preset="") for preset, settings in rows.items()}
    first = presets[0]
    for preset in presets:
        if alike[preset] != alike[first]:
            raise SettingsError(f"{preset} would not be trained like {first}: an ablation compares like with like")
    return rows


def runs_folder(rows: Mapping[str, TrainingSettings], root: Path | None = None) -> Path:
    """Where the runs live: a folder of their own per data, steps and settings, so that none mixes with another."""
    if root is not None:
        return root
    any_row = next(iter(rows.values()))
    return cache_dir() / "ablation" / digest({**any_row.to_dict(), "preset": ""})[:12]


class Ablation:
    """The rows of one ablation: `costs`, `train`, `export`.

    Args:
        rows: settings by preset, in the order of the table.
        folder: holds `runs/PRESET` and `checkpoints/PRESET`.
        device: as for `Trainer`.
        workers: processes that read audio.
    """

    def __init__(
        self, rows: Mapping[str, TrainingSettings], folder: Path, *, device: str | None = None, workers: int = 0
    ) -> None:
        self.rows, self.folder, self.device, self.workers = dict(rows), folder, device, workers

    def run_of(self, preset: str) -> Path:
        """The folder of a row's training run."""
        return self.folder / "runs" / preset

    def trainer(self, preset: str) -> Trainer:
        """The row's trainer, at the step it has reached."""
        return Trainer(self.rows[preset], self.run_of(preset), device=self.device, workers=self.workers)

    def costs(self) -> list[Cost]:
        """What is left of each row and how long it takes here, measured on two steps of each."""
        found: list[Cost] = []
        for preset in self.rows:
            trainer = self.trainer(preset)
            if not found:  # all rows are trained on the same
                trainer.complain()
            left = trainer.settings.steps - trainer.state.step
            seconds, peak = 0.0, 0.0
            if left:
                facts = trainer.rehearse(2)
                seconds, peak = facts["seconds_per_step"], facts["peak_bytes"] / 1e9
            found.append(Cost(preset, left, seconds, trainer.parameters, peak))
        return found

    def train(
        self, preset: str, *, while_training: Callable[[Trainer], Any] | None = None, quiet: bool = False
    ) -> bool:
        """Bring a row to its last step; returns whether it got there (False: it was asked to stop).

        Args:
            preset: the row.
            while_training: gives a context manager for the time of training (signals).
            quiet: no progress bar.

        Raises:
            TrainingStopped: the loss exploded; the last checkpoint stays.
        """
        trainer = self.trainer(preset)
        steps = trainer.settings.steps
        if trainer.state.step == steps:
            return True
        # Quarters are kept for `m2l-bench curve`; checkpoints in between only carry on after a crash.
        quarter = max(1, steps // 4)
        every = max(1, quarter // max(2, -(-quarter // CHECKPOINT_EVERY)))
        parts = max(1, quarter // every)
        with while_training(trainer) if while_training else nullcontext():
            reached = trainer.train(
                checkpoint_every=every, keep=2, milestone=every * parts, quiet=quiet, log_every=max(1, steps // 100)
            )
        return reached == steps

    def export(self, preset: str) -> Path:
        """The row's checkpoint, rounded as those that ship, with its model card."""
        target = self.folder / "checkpoints" / preset
        card = target / "card.json"
        steps = self.rows[preset].steps
        if _exported_step(card) != steps:
            export(self.run_of(preset), target, notes=[f"row of Table 3: {title_of(preset)}"])
        return target


def _exported_step(card: Path) -> int | None:
    """The step that a model card speaks of; None without a readable one: then it is exported again."""
    try:
        return read_object(card, ValueError)["steps"]
    except (OSError, ValueError, KeyError):
        return None


def with_rows(suite: Suite, checkpoints: Mapping[str, Path]) -> Suite:
    """The suite with these checkpoints as the rows of its Table 3, under the paper's titles.

    Args:
        suite: gives clips and metrics.
        checkpoints: preset -> folder.

    Raises:
        SuiteError: the suite has no [table3].
    """
    if suite.table3 is None:
        raise SuiteError(f"suite {suite.name!r} has no [table3]")
    rows = {title_of(preset): f"{preset}=music2latent:{path}" for preset, path in checkpoints.items()}
    table = Table3(rows=rows, metrics=suite.table3.metrics, clips=suite.table3.clips)
    return dataclasses.replace(suite, table3=table)


def measure_rows(
    ablation: Ablation, suite: Suite, store: Store, executor: Executor, run: RunOptions, folder: Path | None = None
) -> tuple[TableResult, RunReport, list[Path]]:
    """Export the trained rows, measure Table 3 with them, and write it.

    Args:
        ablation: trained rows.
        suite: suite with a `[table3]`.
        store, executor, run: as for any table.
        folder: where `table3.*` is written; by default beside the runs.

    Returns:
        The table, what the run did, and the files written.
    """
    checkpoints = {preset: ablation.export(preset) for preset in ablation.rows}
    with executor:
        table, report = build_table3(with_rows(suite, checkpoints), store, executor, run)
    folder = folder or ablation.folder / "results" / suite.name
    stem = stem_for(folder, table.name, failed=bool(report.failed))
    return table, report, table.write(folder, stem)
