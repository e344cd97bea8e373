"""mir_ref's formats: experiment files (YAML) in and out, feature folders in and out.

Names differ, and so do some meanings; whatever cannot be carried over is an error or a warning, never
skipped in silence.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cache import Store, write_atomic
from probes.features import FeaturePlan, gather
from probes.protocol import Protocol, get_protocol, seeds_from
from probes.representations import split_name
from probes.runner import CHANCE, ProbeRun, Request

#: (data set, task) of mir_ref -> task here.
TASKS = {
    ("magnatagatune", "autotagging"): "magnatagatune",
    ("beatport_key", "key_estimation"): "beatport",
    ("tinysol", "pitch_class_classification"): "tinysol-pitch",
    ("tinysol", "instrument_classification"): "tinysol-instrument",
    ("tinysol", "instrument_recognition"): "tinysol-instrument",
}
FEATURES = {
    "msd-musicnn": "musicnn-msd",
    "vggish-audioset": "vggish",
    "clmr-v2": "clmr",
}
MERT_NAME = re.compile(r"mert-v1-95m((?:-\d+)+)$")
#: audiomentations' class -> (kind here, names of the parameter over its versions).
DEFORMATIONS = {
    "AddGaussianSNR": ("noise", ("snr_in_db", "snr_db")),
    "Gain": ("gain", ("gain_in_db", "gain_db")),
    "Mp3Compression": ("mp3", ("bitrate",)),
    "PitchShift": ("pitch", ("semitones",)),
}


class MirRefError(ValueError):
    """An experiment file that cannot be read, or asks for what there is not here."""


@dataclass(frozen=True)
class Imported:
    """One request that an experiment stands for, and what could not be carried over."""

    request: Request
    warnings: tuple[str, ...] = field(default=())

    def describe(self) -> dict[str, Any]:
        """JSON-ready summary."""
        return {
            "tasks": list(self.request.tasks),
            "representations": list(self.request.representations),
            "protocol": self.request.protocol.to_dict(),
            "task_options": {name: dict(o) for name, o in self.request.task_options.items()},
            "representation_options": {n: dict(o) for n, o in self.request.representation_options.items()},
            "deformations": list(self.request.deformations),
            "warnings": list(self.warnings),
        }


def read_experiments(path: str | Path) -> list[dict[str, Any]]:
    """The experiments of a mir_ref file.

    Raises:
        FileNotFoundError: no such file.
        MirRefError: not YAML, or no list `experiments`.
    """
    import yaml

    try:
        record = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MirRefError(f"{path} is not YAML: {error}") from None
    experiments = record.get("experiments") if isinstance(record, dict) else None
    if not isinstance(experiments, list) or not experiments:
        raise MirRefError(f"{path} has no list 'experiments'")
    return experiments


def requests_of(
    experiments: Sequence[Mapping[str, Any]], n_seeds: int = 5, resamples: int = 1000
) -> list[Imported]:
    """One request per experiment, data set and probe.

    Raises:
        MirRefError: a data set, feature or setting that has no counterpart here; it is named.
    """
    found = []
    for number, experiment in enumerate(experiments):
        where = f"experiment {number + 1}"
        for key in ("task", "datasets", "features", "probes"):
            if not experiment.get(key):
                raise MirRefError(f"{where}: no {key!r}")
        names, options = _representations(experiment["features"], where)
        for dataset in experiment["datasets"]:
            task, task_options, scheme, warnings = _dataset(dataset, experiment["task"], where)
            deformations = tuple(
                _scenario(scenario, f"{where}, {task}") for scenario in dataset.get("deformations") or ()
            )
            for probe in experiment["probes"]:
                request = Request(
                    tasks=(task,),
                    representations=names,
                    protocol=_protocol(probe, scheme, where),
                    seeds=tuple(seeds_from(0, n_seeds)),
                    task_options={task: task_options},
                    representation_options=options,
                    resamples=resamples,
                    deformations=deformations,
                )
                found.append(Imported(request, tuple(warnings)))
    return found


def _dataset(
    dataset: Mapping[str, Any], task: Mapping[str, Any], where: str
) -> tuple[str, dict[str, Any], str, list[str]]:
    pair = (str(dataset.get("name")), str(task.get("name")))
    if pair not in TASKS:
        known = ", ".join(f"{d}/{t}" for d, t in TASKS)
        raise MirRefError(f"{where}: no task for data set {pair[0]!r} with {pair[1]!r}; known: {known}")
    if task.get("feature_aggregation", "mean") != "mean":
        raise MirRefError(f"{where}: feature_aggregation {task['feature_aggregation']!r}; only mean is known")
    warnings = []
    split = dataset.get("split_type", "single")
    if split not in ("single", "all"):
        raise MirRefError(f"{where}: split_type {split!r}; known: single, all")
    if split == "all":
        warnings.append(f"{TASKS[pair]}: split_type 'all' is run as the strict folds, each tested once")
    options = {"root": str(dataset["dir"])} if dataset.get("dir") else {}
    return TASKS[pair], options, "strict" if split == "all" else "mir_ref", warnings


def _representations(names: Sequence[str], where: str) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    found: list[str] = []
    options: dict[str, dict[str, Any]] = {}
    for name in names:
        if match := MERT_NAME.match(name):
            layers = tuple(int(part) for part in match[1][1:].split("-"))
            if options.get("mert-v1-95m", {}).get("layers", layers) != layers:
                raise MirRefError(f"{where}: several sets of MERT layers in one experiment; divide it")
            options["mert-v1-95m"] = {"layers": layers}
            found.append("mert-v1-95m")
        elif name in FEATURES:
            found.append(FEATURES[name])
        else:
            known = ", ".join([*FEATURES, "mert-v1-95m-LAYER[-LAYER…]"])
            raise MirRefError(f"{where}: unknown feature {name!r}; known: {known}")
    return tuple(found), options


def _protocol(probe: Mapping[str, Any], scheme: str, where: str) -> Protocol:
    units = probe.get("hidden_units", [])
    if not all(isinstance(size, int) for size in units):
        raise MirRefError(f"{where}: hidden_units {units!r}; only numbers are known")
    if probe.get("type", "classifier") != "classifier" or probe.get("optimizer", "adam") != "adam":
        raise MirRefError(f"{where}: only classifiers trained with adam are known, got {dict(probe)!r}")
    base = get_protocol("mir_ref-1")
    names = {
        "l2": ("weight_decay", float),
        "learning_rate": ("learning_rate", float),
        "batch_size": ("batch_size", int),
        "max_epochs": ("epochs", int),
        "patience": ("patience", int),
    }
    changes: dict[str, Any] = {
        ours: kind(probe[theirs]) for ours, (theirs, kind) in names.items() if theirs in probe
    }
    changes = {k: v for k, v in changes.items() if k == "batch_size" or v != getattr(base.config, k)}
    if tuple(units) != base.config.hidden_units:
        changes["hidden_units"] = tuple(units)
    if scheme != base.scheme:
        changes["scheme"] = scheme
    return base.replace(**changes)


def _scenario(scenario: Sequence[Mapping[str, Any]], where: str) -> str:
    steps = []
    for step in scenario:
        if step.get("type") not in DEFORMATIONS:
            raise MirRefError(f"{where}: deformation {step.get('type')!r}; known: {', '.join(DEFORMATIONS)}")
        kind, names = DEFORMATIONS[step["type"]]
        values = step.get("params", {})
        ends = {
            values[f"{end}_{name}"] for name in names for end in ("min", "max") if f"{end}_{name}" in values
        }
        if len(ends) != 1 or values.get("p", 1) != 1:
            raise MirRefError(
                f"{where}: {step['type']} needs one fixed value and p = 1, got {dict(values)!r}"
            )
        steps.append(f"{kind}:{float(ends.pop()):g}")
    return "+".join(steps)


def export_experiments(request: Request) -> str:
    """A mir_ref experiment file (YAML) for a request under mir_ref-1.

    Raises:
        MirRefError: a task or representation that mir_ref does not have.
    """
    import yaml

    back = {task: pair for pair, task in reversed(TASKS.items())}
    features = {ours: theirs for theirs, ours in FEATURES.items()} | {"mert-v1-95m": "mert-v1-95m-9-10-11-12"}
    experiments = []
    config = request.protocol.config
    for task in request.tasks:
        if task not in back:
            raise MirRefError(f"mir_ref has no task for {task!r}; it has {', '.join(back)}")
        if unknown := [n for n in request.representations if n not in features]:
            raise MirRefError(f"mir_ref has no feature for {unknown[0]!r}; it has {', '.join(features)}")
        dataset, name = back[task]
        tags = task == "magnatagatune"
        kind = "multilabel_classification" if tags else "multiclass_classification"
        experiments.append(
            {
                "task": {"name": name, "type": kind, "feature_aggregation": "mean"},
                "datasets": [
                    {
                        "name": dataset,
                        "type": "custom" if tags else "mirdata",
                        "dir": f"data/{dataset}/",
                        "split_type": "single" if request.protocol.scheme == "mir_ref" else "all",
                        "deformations": [_audiomentations(text) for text in request.deformations],
                    }
                ],
                "features": [features[n] for n in request.representations],
                "probes": [
                    {
                        "type": "classifier",
                        "emb_dim_reduction": False,
                        "emb_shape": "infer",
                        "hidden_units": list(config.hidden_units),
                        "output_activation": "sigmoid" if tags else "softmax",
                        "weight_decay": config.l2,
                        "optimizer": "adam",
                        "learning_rate": config.learning_rate,
                        "batch_size": request.protocol.batch_size or (1083 if tags else 64),
                        "epochs": config.max_epochs,
                        "patience": config.patience,
                        "train_sampling": "random",
                    }
                ],
            }
        )
    return yaml.safe_dump({"experiments": experiments}, sort_keys=False)


def _audiomentations(text: str) -> list[dict[str, Any]]:
    from probes.deformations import parse_deformation

    back = {kind: (name, parameters[0]) for name, (kind, parameters) in DEFORMATIONS.items()}
    steps = []
    for kind, amount in parse_deformation(text).steps:
        name, parameter = back[kind]
        steps.append(
            {"type": name, "params": {f"min_{parameter}": amount, f"max_{parameter}": amount, "p": 1}}
        )
    return steps


def export_features(found: ProbeRun, folder: Path, store: str | None, device: str = "cpu") -> list[Path]:
    """Write features as mir_ref keeps them: `folder/REPRESENTATION/<audio path>.npy`, (dim,) float32.

    Clips of files keep their file's name; others are named by id. `npy:folder/REPRESENTATION` reads them.
    """
    paths = []
    for representation in found.request.representations:
        if representation == CHANCE:
            continue
        name, output = split_name(representation)
        plan = FeaturePlan(name, dict(found.request.representation_options.get(name, {})), device)
        for task in found.tasks.values():
            features, ids, _ = gather(plan.units(task.clips), Store(store), output)
            for clip, vector in zip(task.clips, features, strict=True):
                assert clip.id == ids[task.row[clip.id]]
                path = folder / representation.replace(":", "-") / task.info.dataset / f"{clip.id}.npy"
                file = io.BytesIO()
                np.save(file, vector)
                write_atomic(path, file.getvalue())
                paths.append(path)
    return paths
