"""What `m2l-bench paper` measures: the suite `paper`, with checkpoints of Table 3 and with limits for a rehearsal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.compare.ablation import FULL, with_rows
from benchmarks.errors import UsageError
from benchmarks.suite import Suite, load_suite

#: What the name of a suite ends with, and so the folder of its results, where only a part of it is measured.
REHEARSAL = "-rehearsal"


@dataclass(frozen=True)
class PaperOptions:
    """What is asked for beside the suite itself.

    Attributes:
        ablation_runs: folder that `m2l-bench ablation --full --runs` wrote, or one with a checkpoint per row.
        limit: most clips, of each part of a task in Table 1 (0: all).
        seconds: beginning of each clip (0: all of it).
        steps: most denoising steps of a system of Table 2 (0: its own number). Figure 2 keeps its steps.
        seeds: trainings of each probe of Table 1 (0: the suite's).
    """

    ablation_runs: Path | None = None
    limit: int = 0
    seconds: float = 0.0
    steps: int = 0
    seeds: int = 0

    @property
    def limits(self) -> dict[str, float]:
        """Those options that leave a part of the suite out."""
        given = {"limit": self.limit, "seconds": self.seconds, "steps": self.steps, "seeds": self.seeds}
        return {name: value for name, value in given.items() if value}


def paper_suite(options: PaperOptions, suite: str = "paper") -> Suite:
    """The suite with the options' changes; with limits it has a name and a title of its own.

    Raises:
        UsageError: a folder of ablation runs that holds none of the rows.
    """
    chosen = load_suite(suite)
    if options.ablation_runs is not None:
        chosen = with_rows(chosen, checkpoints_in(options.ablation_runs))
    if options.steps and chosen.table2 is not None:
        # A system's class says how many steps it takes; nothing of its weights is needed.
        own = {name: getattr(AUTOENCODERS.load(name), "n_steps", None) or 0 for name in chosen.table2.systems}
        fewer = {name: options.steps for name, steps in own.items() if steps > options.steps}
        chosen = dataclasses.replace(chosen, table2=dataclasses.replace(chosen.table2, n_steps=fewer))
    if options.seeds and chosen.table1 is not None:
        chosen = dataclasses.replace(chosen, table1={**chosen.table1, "seeds": options.seeds})
    if options.limits:
        given = " ".join(f"--{name} {value:g}" for name, value in options.limits.items())
        title = f"rehearsal with {given}: {chosen.title or chosen.name}"
        chosen = dataclasses.replace(chosen, name=chosen.name + REHEARSAL, title=title)
    return chosen


def checkpoints_in(folder: Path) -> dict[str, Path]:
    """Preset -> checkpoint of the rows of Table 3 that a folder holds.

    Args:
        folder: of `m2l-bench ablation --runs` (`checkpoints/PRESET`), or with `PRESET` itself: a folder with
            `model.safetensors` and `config.json`.

    Returns:
        All rows; the place where one was expected that is missing, so that its cells say so.

    Raises:
        UsageError: the folder holds none of them.
    """
    found = {}
    for preset in FULL:
        places = [folder / "checkpoints" / preset, folder / preset]
        found[preset] = next((place for place in places if (place / "model.safetensors").is_file()), places[0])
    if not any((place / "model.safetensors").is_file() for place in found.values()):
        raise UsageError(
            f"--ablation-runs {folder}: no checkpoint of {', '.join(FULL)}; expected is, for instance, "
            f"{found[FULL[0]] / 'model.safetensors'}, which m2l-bench ablation --full --runs {folder} writes"
        )
    return found
