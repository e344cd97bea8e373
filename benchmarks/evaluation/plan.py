"""Turns a suite's rows and columns into units: clips, systems and metrics under their content keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.latmusic import PublishedOnlyError
from benchmarks.autoencoders.names import label_of
from benchmarks.embedders import embedder_label
from benchmarks.evaluation.clips import SuiteClips, seconds_of
from benchmarks.evaluation.jobs import AggregateJob, CompareJob, EmbedJob, Limits, LoadJob, ReconstructJob, Resampling
from benchmarks.evaluation.keys import embedder_identity, stage_spec
from benchmarks.evaluation.own_plan import (
    code_of_distance,
    code_of_system,
    runs_user_code,
    trial_clips,
    try_embedder,
    try_metric,
    try_system,
)
from benchmarks.evaluation.systems import STEREO, SystemRow, accepts_device, with_files
from benchmarks.evaluation.trial import CLIPS, FURTHER_CLIPS, Trial, TrialClip, constructed
from benchmarks.harness.run import RunOptions
from benchmarks.harness.units import STAND_IN, Unit
from benchmarks.metrics.base import CorpusMetric, Metric, PairMetric
from benchmarks.registry import UnknownNameError
from benchmarks.store.fingerprint import code_digest, digest
from benchmarks.store.held import PREFIX
from benchmarks.store.own_code import split_label
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError
from benchmarks.user_code import ClashError, UserCodeError, user_error
from benchmarks.weights.find import WeightsCorruptError


@dataclass(frozen=True)
class PlannedCell:
    """The unit of one cell, or the reason why it cannot be measured; in a dry run both, with a stand-in as unit."""

    unit: Unit | None = None
    reason: str | None = None


class Planner(SuiteClips):
    """Units for one suite.

    In a dry run, whatever is not available (data of a known size, weights, packages) is planned with units that
    stand in for it, so that their number and the hours of audio are known before anything is downloaded.

    Args:
        suite: what to measure.
        options: limit and device, and whether it is a dry run.
        n_clips: use the first so many clips (0: all).
    """

    def __init__(self, suite: Suite, options: RunOptions, n_clips: int = 0) -> None:
        super().__init__(suite, options, n_clips)
        self.store: Store | None = None
        self._embedders: dict[str, Trial | None] = {}

    @cached_property
    def load_units(self) -> tuple[Unit, ...]:
        """One unit per group of clips."""
        return self._load(Limits.of(self.suite.data))

    @cached_property
    def stereo_units(self) -> tuple[Unit, ...]:
        """The same with all channels of the clips, where the suite has this view beside the mono fold; else empty."""
        data = self.suite.data
        return self._load(Limits.of(data, stereo=True)) if data.channels == "stereo" else ()

    def sees_stereo(self, metric: Metric) -> bool:
        """Whether a metric is given the clips' channels, where the suite gives others the mono fold."""
        return bool(self.stereo_units) and isinstance(metric, PairMetric) and not metric.folds

    def _load(self, limits: Limits) -> tuple[Unit, ...]:
        data = self.suite.data
        units = []
        for start in range(0, len(self.clips), data.unit_clips):
            clips = self.clips[start : start + data.unit_clips]
            spec = stage_spec("load") | {"clips": [[clip.id, clip.digest] for clip in clips], "limits": asdict(limits)}
            if self.stand_in is not None:
                spec[STAND_IN] = self.data_name
            amount = seconds_of(clips)
            units.append(
                Unit(
                    "load",
                    data.dataset,
                    "benchmarks.evaluation.stages:load",
                    spec,
                    payload=LoadJob(tuple(clips), limits),
                    amount=amount,
                    group=digest(spec["clips"]),
                )
            )
        return tuple(units)

    def system(self, name: str, n_steps: int | None = None, **system_options: Any) -> SystemRow:
        """The row of a system, or why it is not available. A user's class is tried first.

        Raises:
            UnknownNameError: no such system.
            UserCodeError: a user's class cannot be constructed.
            SuiteError: a wrong option, or a class that is no autoencoder.
        """
        tried = None
        # Make it: a user's class is tried on clips, the others only say what they are.
        try:
            if constructed(lambda: accepts_device(name)):
                system_options.setdefault("device", self.options.device)
            if runs_user_code(name):
                key = repr((split_label(name)[1], sorted(system_options.items())))
                tried = self.options.trials.get(key)
                if tried is None or not tried.holds():
                    tried = try_system(
                        name,
                        system_options,
                        self.suite.seed,
                        lambda: self.trial_clips,
                        self.store,
                        lambda: trial_clips(self.clips[CLIPS:], self.suite.data, FURTHER_CLIPS),
                    )
                    self.options.trials[key] = tried
                spec = tried.spec
            else:
                system = create_autoencoder(name, **system_options)
                spec = system.spec
        except (UserCodeError, ClashError) as error:
            raise user_error(error) from error
        except PublishedOnlyError as error:
            return SystemRow(name, None, reason=str(error), n_steps=n_steps)
        except (FileNotFoundError, ImportError, WeightsCorruptError) as error:
            return self._missing_system(SystemRow(name, None, reason=str(error), n_steps=n_steps))
        except UnknownNameError:
            raise
        except TypeError as error:
            raise SuiteError(f"options of system {name!r}: {error}") from error
        except ValueError as error:
            raise SuiteError(f"system {label_of(name)!r}: {error}") from error
        # Identity: everything but the audio that decides its output.
        steps = None if spec.n_steps is None else (n_steps or spec.n_steps)
        row = SystemRow(name, spec, n_steps=steps)
        identity = {
            "system": {
                "sample_rate": spec.sample_rate,
                "channels": spec.channels,
                "version": spec.version,
                "options": spec.options,
                "weights": spec.weights_digest,
                "code": code_of_system(name, system_options),
                **({"read": tried.identity} if tried else {}),
            },
            "n_steps": steps,
            "seed": self.suite.seed,
            "device": system_options.get("device", "cpu"),
        }
        # Units: one per group of clips; those of an external system read its files.
        payload = ReconstructJob(name, system_options, steps, self.suite.seed)

        def over(loads: Iterable[Unit], label: str) -> tuple[Unit, ...]:
            return tuple(
                Unit(
                    "reconstruct",
                    label,
                    "benchmarks.evaluation.stages:reconstruct",
                    stage_spec("reconstruct") | identity,
                    inputs=(load,),
                    payload=payload,
                    amount=load.amount,
                    group=load.group,
                    watch=tried.watch if tried else None,
                    local=split_label(name)[1].startswith(PREFIX),
                )
                for load in loads
            )

        # Rates are kept by name: two channels may take twice as long.
        stereo = over(self.stereo_units, row.label + STEREO)
        row = SystemRow(name, spec, n_steps=steps, units=over(self.load_units, row.label), stereo=stereo)
        if tried:
            return replace(row, error=tried.error, remark=tried.remark)
        if split_label(name)[1].startswith("external:"):
            return with_files(row, system, self.all_clip_ids)  # type: ignore[arg-type]
        return row

    def _missing_system(self, row: SystemRow) -> SystemRow:
        """The row of a system that is not available; in a dry run with units that stand in for its own."""
        if not self.options.dry_run:
            return row
        # Its default number of steps is unknown without it; it is one for all that take one.
        row = replace(row, n_steps=None if row.n_steps == 1 else row.n_steps)
        mono, stereo = (
            self._stand_ins("reconstruct", name, [(load,) for load in loads])
            for name, loads in ((row.label, self.load_units), (row.label + STEREO, self.stereo_units))
        )
        return replace(row, units=mono, stereo=stereo)

    def _pairs(self, row: SystemRow, metric: Metric) -> list[tuple[Unit, Unit]]:
        """The units of clips and of a system's output that a metric is given."""
        if self.sees_stereo(metric):
            return list(zip(self.stereo_units, row.stereo, strict=True))
        return list(zip(self.load_units, row.units, strict=True))

    @staticmethod
    def _stand_ins(stage: str, name: str, inputs: Iterable[tuple[Unit, ...]]) -> tuple[Unit, ...]:
        """Units that count what is missing: one for each of `inputs`, the first of which is a load unit."""
        return tuple(
            replace(found[0], stage=stage, name=name, spec={STAND_IN: name}, inputs=found, payload=None)
            for found in inputs
        )

    @cached_property
    def trial_clips(self) -> list[TrialClip]:
        """Clips to try a user's class on."""
        return trial_clips(self.clips, self.suite.data)

    def cell(self, row: SystemRow, metric: Metric) -> PlannedCell:
        """How one cell is measured, or why it cannot be."""
        if row.reason is not None and not row.units:
            return PlannedCell(reason=row.reason)
        why = constructed(metric.unavailable)
        if why is None:
            return PlannedCell(metric.cell_unit(self, row), row.reason)
        reason = row.reason or why
        if not self.options.dry_run:
            return PlannedCell(reason=reason)
        inputs: list[tuple[Unit, ...]] = [*self._pairs(row, metric)]
        embedder = getattr(metric, "embedder", "")
        if embedder:
            inputs += [(load,) for load in self.load_units]
        units = self._stand_ins("embed" if embedder else "score", embedder or metric.name, inputs)
        spec = {STAND_IN: metric.name}
        return PlannedCell(Unit("aggregate", metric.name, "", spec, units, amount=self.seconds), reason)

    def metadata(self, row: SystemRow) -> Unit:
        """The unit that gathers what only running a system tells."""
        return Unit(
            "aggregate",
            "metadata",
            "benchmarks.evaluation.stages:aggregate_metadata",
            stage_spec("aggregate"),
            row.units,
            amount=self.seconds,
        )

    def pair_comparison(self, metric: PairMetric, labels: Sequence[str], cells: Sequence[Unit]) -> Unit:
        """Pairwise comparisons of one column's cells, by the scores of clips."""
        return self._comparison(metric, "compare_score_units", labels, cells)

    def corpus_comparison(self, metric: CorpusMetric, labels: Sequence[str], cells: Sequence[Unit]) -> Unit:
        """Pairwise comparisons of one column's cells, by their replicates."""
        return self._comparison(metric, "compare_corpus_units", labels, cells)

    def _comparison(self, metric: Metric, function: str, labels: Sequence[str], cells: Sequence[Unit]) -> Unit:
        spec = stage_spec("aggregate") | {"rows": list(labels)} | self._statistics_spec()
        payload = CompareJob(tuple(labels), self._resampling(), self.groups)
        target = f"benchmarks.evaluation.stages:{function}"
        name = f"compare {metric.name}"
        return Unit("aggregate", name, target, spec, tuple(cells), payload, amount=self.seconds)

    def pair_cell(self, row: SystemRow, metric: PairMetric) -> Unit:
        """The cell of a metric of pairs: one unit of scores per group of clips, and their mean."""
        tried = self._try_metric(metric)
        spec = stage_spec("score") | {"metric": metric.name, "declared": metric.spec}
        if tried is not None:
            spec |= {"own": tried.spec, "read": tried.identity}
        else:
            spec |= {"code": code_digest(*metric.modules), **metric.identity()}
        scores = tuple(
            Unit(
                "score",
                metric.name,
                "benchmarks.evaluation.stages:score",
                spec,
                inputs=(load, unit),
                payload=metric,
                amount=load.amount,
                group=load.group,
                watch=tried.watch if tried else None,
            )
            for load, unit in self._pairs(row, metric)
        )
        return Unit(
            "aggregate",
            metric.name,
            "benchmarks.evaluation.stages:aggregate_pairs",
            stage_spec("aggregate") | self._statistics_spec(),
            scores,
            AggregateJob(self._resampling(), self.clip_ids, self.groups),
            amount=self.seconds,
        )

    def _try_metric(self, metric: PairMetric) -> Trial | None:
        """The trial of a user's metric, once per run; None for one of this project."""
        if not metric.own:
            return None
        key = f"metric {metric.given}"
        tried = self.options.trials.get(key)
        if tried is None or not tried.holds():
            stereo = self.sees_stereo(metric)
            tried = try_metric(metric, lambda: trial_clips(self.clips, self.suite.data, stereo=stereo), self.store)
            self.options.trials[key] = tried
        if tried.error is not None and self.options.refuse_broken:
            raise tried.error
        found: Trial = tried
        return found

    def corpus_cell(self, row: SystemRow, metric: CorpusMetric) -> Unit:
        """The cell of a distance of corpora: embeddings of originals and of outputs, and the distance between them."""
        reference = self.embeddings(metric.embedder)
        outputs = tuple(
            self._embed(metric.embedder, (load, unit)) for load, unit in zip(self.load_units, row.units, strict=True)
        )
        spec = stage_spec("aggregate") | self._statistics_spec()
        return Unit(
            "aggregate",
            metric.name,
            "benchmarks.evaluation.stages:aggregate_corpus",
            spec | {"distance": metric.distance, "code": code_of_distance(metric)},
            reference + outputs,
            AggregateJob(self._resampling(), self.clip_ids, self.groups, metric.distance),
            amount=self.seconds,
        )

    def embeddings(self, embedder: str) -> tuple[Unit, ...]:
        """The units that embed the clips themselves."""
        return tuple(self._embed(embedder, (load,)) for load in self.load_units)

    def _embed(self, embedder: str, inputs: tuple[Unit, ...]) -> Unit:
        if embedder not in self._embedders:
            tried = try_embedder(embedder, self.options.device, lambda: self.trial_clips, self.store)
            if tried is not None and tried.error is not None and self.options.refuse_broken:
                raise tried.error
            self._embedders[embedder] = tried
        tried = self._embedders[embedder]
        identity = {**tried.spec, "read": tried.identity} if tried else embedder_identity(embedder)
        return Unit(
            "embed",
            embedder_label(embedder),
            "benchmarks.evaluation.stages:embed",
            stage_spec("embed") | {"embedder": identity, "device": self.options.device},
            inputs=inputs,
            payload=EmbedJob(embedder, {"device": self.options.device}),
            amount=inputs[0].amount,
            group=inputs[0].group,
            watch=tried.watch if tried else None,
        )

    def _resampling(self) -> Resampling:
        statistics = self.suite.statistics
        return Resampling(self.suite.seed, statistics.resamples, statistics.level)

    def _statistics_spec(self) -> dict[str, Any]:
        """What intervals depend on beside the values; a new grouping of the clips measures no audio anew."""
        return asdict(self._resampling()) | {"clips": list(self.clip_ids), "groups": self.groups}
