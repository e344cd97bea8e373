"""`benchmarks.evaluate`: an autoencoder measured beside a suite's baselines, from Python or a notebook."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.autoencoders.names import label_of
from benchmarks.compare.evaluated import Evaluated
from benchmarks.compare.systems import compare
from benchmarks.errors import UsageError
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.metrics.base import Metric
from benchmarks.report.aggregates import read_aggregates
from benchmarks.report.folder import check_target, write
from benchmarks.report.listening import ListeningOptions, build_listening
from benchmarks.report.site import render
from benchmarks.store.held import Held, hold
from benchmarks.store.own_code import split_label
from benchmarks.store.store import Store
from benchmarks.suite import Suite, load_suite
from benchmarks.tables.scores import write_scores

#: What `evaluate` takes: a name, an object, several of them, or a dictionary label -> name or object.
Given = Any


@dataclass(frozen=True, repr=False)
class EvaluatedSystems(Evaluated):
    """What `benchmarks.evaluate` returns.

    Attributes:
        suite: with the systems that were measured.
        options: how they were measured.
        store: where the results of work units are.
    """

    suite: Suite | None = None
    options: RunOptions | None = None
    store: Store | None = None

    def report(self, folder: str | Path, *, clips: int = 4, audio: str = "mp3") -> Path:
        """Write the results as a folder of HTML: the table, charts, and a page to listen.

        Args:
            folder: where; an older report is replaced.
            clips: how many clips can be heard (0: all).
            audio: "mp3", "mp3-small", "ogg", "flac" or "none".

        Returns:
            Its first page.

        Raises:
            FileExistsError, NotADirectoryError: the folder holds something else.
        """
        assert self.suite is not None
        assert self.options is not None
        assert self.store is not None
        target = Path(folder).expanduser()
        check_target(target)
        with tempfile.TemporaryDirectory() as place, make_executor("serial") as executor:
            results = Path(place) / self.suite.name
            dataclasses.replace(self.result, name="table2").write(results)
            write_scores(results)
            found = read_aggregates(results)
            choice = ListeningOptions(clips, audio)
            options = dataclasses.replace(self.options, said=set())
            listening = build_listening(found, self.suite, self.store, executor, options, choice)
            site = render(found, listening, [])
        write(site.files, target)
        return target / "index.html"


def evaluate(
    autoencoder: Given,
    suite: str | Path | Suite = "synthetic",
    metrics: Sequence[str | Metric] | None = None,
    against: Given = None,
    *,
    spec: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int = 0,
    workers: int | None = None,
    device: str = "cpu",
    store: str | Path | None = None,
    quiet: bool = False,
) -> EvaluatedSystems:
    """Measure an autoencoder on a suite, beside its baselines.

    Args:
        autoencoder: an object of any class with `encode(audio)` and `decode(latents)`, or with
            `reconstruct(audio, sample_rate)`; a `Music2Latent` or `EncoderDecoder`; or a name that
            `m2l-bench compare` takes ("music2latent-mini", "my_codec.py:MyCodec"). A list, or a dictionary
            label -> one of these, measures several.
        suite: a shipped suite, a suite file, or a `Suite`.
        metrics: columns; default those of the suite's Table 2.
        against: baselines, as `autoencoder`; default those of the suite's Table 2, `[]` for none.
        spec: of an object that has no `spec` and no `sample_rate`: `{"sample_rate": 44100, "channels": "mono"}`.
        options: options of systems that are given by name: `{"my_codec.py:MyCodec": {"keep": 16}}`.
        limit: measure the first so many clips (0: all).
        workers: processes; default the CPUs that this process may use. An object runs in this one, on one thread.
        device: device of networks that are given by name; an object stays where it is.
        store: folder of kept results; default in the cache.
        quiet: print no progress to stderr.

    Returns:
        `.table`, `.cells`, `.scores` and `.comparisons` are data frames; `.report(folder)` writes HTML; a notebook
        shows the table.

    The results of an object are kept by its code, its contents, and the files it reads; an object with parts that
    cannot be seen is measured anew by every call, which is said.

    Raises:
        SuiteError: no such suite, or the suite has no [table2].
        UnknownNameError: no such system or metric.
        UserCodeError: the object fails on every clip that is tried; the message names the line.
        FileNotFoundError: weights or data that all depends on are missing.

    Example:
        >>> found = benchmarks.evaluate(model, metrics=["si_sdr", "mel"], against=["opus-16k"])  # doctest: +SKIP
        >>> found.table                                                                          # doctest: +SKIP
    """
    chosen = suite if isinstance(suite, Suite) else load_suite(str(suite))
    new, kept = names_of(autoencoder, spec)
    if not new:
        raise UsageError("nothing to evaluate: give an object or a name")
    baselines, more = (None, []) if against is None else names_of(against)
    run = RunOptions(limit=limit, device=device, quiet=quiet)
    place = Store(store)
    with make_executor(workers=workers) as executor:
        return _evaluate(chosen, new, baselines, metrics, options, run, place, executor, (*kept, *more))


def _evaluate(
    suite: Suite,
    new: Sequence[str],
    baselines: Sequence[str] | None,
    metrics: Sequence[str | Metric] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    run: RunOptions,
    store: Store,
    executor: Executor,
    kept: tuple[Held, ...],
) -> EvaluatedSystems:
    planner = Planner(suite, run)
    found = compare(planner, store, executor, new, baselines=baselines, metrics=metrics, system_options=options)
    table2 = suite.table2
    assert table2 is not None, "compare has refused a suite without it"
    others = table2.systems if baselines is None else baselines
    systems = [*(name for name in others if name not in new), *new]
    given = table2.system_options | {name: dict(chosen) for name, chosen in (options or {}).items()}
    measured = dataclasses.replace(table2, systems=systems, system_options=given)
    failed = sorted({f"{done.stage} {done.name} failed: {done.error}" for done in found.report.failed.values()})
    return EvaluatedSystems(
        found.table,
        found.new,
        found.report,
        [*found.warnings, *(item.remark for item in kept if item.remark), *failed],
        kept,
        dataclasses.replace(suite, table2=measured),
        run,
        store,
    )


def names_of(given: Given, spec: Mapping[str, Any] | None = None) -> tuple[list[str], list[Held]]:
    """Names that stand for what was given, and the objects among it under those names.

    Args:
        given: as `evaluate` takes it.
        spec: of objects that do not have one.

    Raises:
        UsageError: a label that is none.
        TypeError: a class in place of an instance.
    """
    if isinstance(given, Mapping):
        items = list(given.items())
    else:
        items = [("", item) for item in (given if isinstance(given, (list, tuple)) else [given])]
    names: list[str] = []
    kept: list[Held] = []
    labels: set[str] = set()
    for label, item in items:
        if isinstance(item, (str, Path)):
            name = f"{label}={item}" if label else str(item)
            if label and split_label(name)[0] != label:
                raise UsageError(f"label {label!r}: letters, digits, spaces and . _ + @ - are fine")
            names.append(name)
            labels.add(label_of(name))
            continue
        made = hold(item, _free(str(label) or type(item).__name__, labels), spec)
        labels.add(made.label)
        kept.append(made)
        names.append(made.name)
    return names, kept


def _free(label: str, taken: set[str]) -> str:
    """The label, or with a number what nothing else is called."""
    number = 2
    found = label
    while found in taken:
        found, number = f"{label}-{number}", number + 1
    return found
