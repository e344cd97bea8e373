"""From tasks and representations to units: `features` (of 24 clips) -> `probe` (tasks that share clips)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.autoencoders.latmusic import PublishedOnlyError
from benchmarks.datasets import PublishedSize
from benchmarks.datasets.base import shortened
from benchmarks.errors import UsageError
from benchmarks.harness.run import RunOptions
from benchmarks.harness.units import STAND_IN, Unit
from benchmarks.store.fingerprint import code_digest, library_versions
from benchmarks.store.store import Store
from benchmarks.user_code import ClashError, user_error
from benchmarks.weights.find import WeightsCorruptError
from probes.features import FeaturePlan, stand_in_units
from probes.jobs import EvaluateJob
from probes.representations import own_target, split_name
from probes.representations.base import RepresentationSpec
from probes.request import CHANCE, Request
from probes.scoring import problem_of
from probes.tasks.base import TaskData


class Planner:
    """Feature plans and probe units of a request.

    Args:
        request: what to evaluate.
        tasks: the tasks whose data is available, by name.
        options: device and overwrite mode.
        store: where earlier runs recorded what a user's representation reads.
    """

    def __init__(self, request: Request, tasks: Mapping[str, TaskData], options: RunOptions, store: Store) -> None:
        self.request, self.tasks, self.options, self.store = request, tasks, options, store
        # What is only planned must not run anybody's code on a clip.
        self.ask = options.overwrite != "cache-only" and not options.dry_run
        self.published_only: set[str] = set()
        self.plans: dict[str, FeaturePlan | str] = {}
        self.specs: dict[str, RepresentationSpec] = {}

    def groups(self) -> list[tuple[str, ...]]:
        """Tasks that share clips: one feature matrix, one training pass."""
        found: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for name, data in self.tasks.items():
            if self.request.protocol.scheme in data.schemes:
                found.setdefault(tuple((clip.id, clip.digest) for clip in data.clips), []).append(name)
        return [tuple(names) for names in found.values()]

    def _plan(self, representation: str) -> FeaturePlan | str:
        name, _ = split_name(representation)
        if name not in self.plans:
            options = dict(self.request.representation_options.get(name, {}))
            clips = next((task.clips for task in self.tasks.values()), ())
            try:
                plan = self.plans[name] = FeaturePlan(name, options, self.options.device, clips, self.store)
            except (FileNotFoundError, ImportError, WeightsCorruptError) as error:
                self.plans[name] = str(error)
                if isinstance(error, PublishedOnlyError):
                    self.published_only.add(name)
                if self.options.refuse_broken and (own_target(name) is not None or isinstance(error, ClashError)):
                    raise user_error(error) from error
                return self.plans[name]
            if plan.error is not None and self.options.refuse_broken:
                raise plan.error
            if plan.remark and plan.remark not in self.options.said:
                self.options.said.add(plan.remark)
                print(f"warning: {plan.remark}", file=sys.stderr)
        return self.plans[name]

    def unit(self, representation: str, group: tuple[str, ...]) -> Unit | str:
        """The probe unit of a representation on tasks that share clips, or why there is none."""
        request = self.request
        features: list[Unit] = []
        deformed: dict[str, list[Unit]] = {}
        _, output = split_name(representation)
        if representation != CHANCE:
            plan = self._plan(representation)
            if isinstance(plan, str):
                return plan
            self.specs[representation] = plan.spec
            if output is not None and output not in plan.spec.outputs:
                known = ", ".join(plan.spec.outputs)
                raise UsageError(f"representation {representation!r}: no output {output!r} (has: {known})")
            for deformation in request.deformations:
                plan.check_deformation(deformation)
            clips = self.tasks[group[0]].clips
            problem = plan.problem(clips, self.store, ask=self.ask)
            if problem is not None:
                return f"{representation}: {problem}"
            features = plan.units(clips)
            tested = sorted({i for name in group for split in self._splits(name) for i in split.test})
            rows = self.tasks[group[0]].rows(tested)
            for deformation in request.deformations:
                changed = [clips[row] for row in sorted(rows.tolist())]
                deformed[deformation] = plan.units(changed, deformation)
        spec = {
            "representation": CHANCE if representation == CHANCE else "features",
            "output": output,
            "protocol": request.protocol.to_dict(),
            "seeds": list(request.seeds),
            "tasks": [
                {
                    "name": name,
                    "data": self.tasks[name].digest,
                    "splits": [split.digest for split in self._splits(name)],
                    "batch_size": self.tasks[name].info.batch_size,
                    "clusters": self.tasks[name].clusters_digest,
                }
                for name in group
            ],
            "shuffle_labels": request.shuffle_labels,
            "deformations": list(request.deformations),
            "code": code_digest("probes.stage"),
            "libraries": library_versions(),
        }
        protocol = request.protocol
        problems = tuple(problem_of(self.tasks[name], protocol.scheme, name, protocol.batch_size) for name in group)
        job = EvaluateJob(
            problems,
            protocol,
            tuple(request.seeds),
            shuffle_labels=request.shuffle_labels,
            output=output,
            n_features=len(features),
            deformed={name: len(units) for name, units in deformed.items()},
            is_chance=representation == CHANCE,
        )
        return Unit(
            "probe",
            f"{representation} on {' + '.join(group)}",
            "probes.stage:probe",
            spec,
            inputs=(*features, *(unit for units in deformed.values() for unit in units)),
            payload=job,
        )

    def _splits(self, name: str) -> Any:
        return self.tasks[name].splits(self.request.protocol.scheme)

    def reason(self, representation: str, plan: Mapping[tuple[str, str], Unit | str]) -> str | None:
        """Why a representation cannot be measured, on one task at least; None when it can."""
        if not self.tasks:
            made = self._plan(representation)
            return made if isinstance(made, str) else None
        found = [plan[representation, task] for task in self.tasks]
        return next((reason for reason in found if isinstance(reason, str)), None)

    def stand_ins(self, plan: Mapping[tuple[str, str], Unit | str], sizes: Mapping[str, PublishedSize]) -> list[Unit]:
        """Units that count, in a dry run, what is not available: data of a known size, weights, packages.

        Args:
            plan: what is planned by representation and task.
            sizes: missing data sets.
        """
        most = 3 * self.options.limit or None  # of train, validation and test
        missing = {name: shortened(size.stand_ins()[:most], self.options.seconds) for name, size in sizes.items()}
        found = []
        for representation in self.request.representations:
            clips = dict(missing)
            for group in self.groups():
                if isinstance(plan[representation, group[0]], str):
                    clips[" + ".join(group)] = list(self.tasks[group[0]].clips)
            base = split_name(representation)[0]
            if representation != CHANCE:
                self._plan(representation)
            if base in self.published_only:
                continue
            for name, part in clips.items():
                spec = {STAND_IN: [representation, name]}
                inputs = () if representation == CHANCE else stand_in_units(base, name, part)
                found.append(Unit("probe", f"{representation} on {name}", "", spec, inputs))
        return found
