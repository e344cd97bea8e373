"""mir_ref's experiment files (YAML) in and out.

Names differ, and so do some meanings; whatever cannot be carried over is an error or a warning and never
skipped silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.errors import UsageError
from probes.deformations import parse_deformation
from probes.protocol import Protocol, get_protocol, seeds_from
from probes.request import Request

#: (data set, task) of mir_ref -> task here.
TASKS = {
    ("magnatagatune", "autotagging"): "magnatagatune",
    ("beatport_key", "key_estimation"): "beatport",
    ("tinysol", "pitch_class_classification"): "tinysol-pitch",
    ("tinysol", "instrument_classification"): "tinysol-instrument",
    ("tinysol", "instrument_recognition"): "tinysol-instrument",
}
FEATURES = {"msd-musicnn": "musicnn-msd", "vggish-audioset": "vggish", "clmr-v2": "clmr"}
MERT_NAME = re.compile(r"mert-v1-95m((?:-\d+)+)$")
#: audiomentations' class -> (kind here, names of the parameter over its versions).
DEFORMATIONS = {
    "AddGaussianSNR": ("noise", ("snr_in_db", "snr_db")),
    "Gain": ("gain", ("gain_in_db", "gain_db")),
    "Mp3Compression": ("mp3", ("bitrate",)),
    "PitchShift": ("pitch", ("semitones",)),
}
#: What each part of a file may say.
_KEYS = {
    "file": ("experiments",),
    "experiment": ("task", "datasets", "features", "probes", "deformations"),
    "task": ("name", "type", "feature_aggregation"),
    "data set": ("name", "type", "dir", "split_type", "deformations"),
    "probe": (
        *("type", "emb_dim_reduction", "emb_shape", "hidden_units", "output_activation", "weight_decay"),
        *("optimizer", "learning_rate", "batch_size", "epochs", "patience", "train_sampling"),
    ),
    "deformation": ("type", "params"),
}
#: Our setting -> mir_ref's, and its type.
_NUMBERS = {
    "l2": ("weight_decay", float),
    "learning_rate": ("learning_rate", float),
    "batch_size": ("batch_size", int),
    "max_epochs": ("epochs", int),
    "patience": ("patience", int),
}


class MirRefError(UsageError):
    """An experiment file that cannot be read, or asks for something that does not exist here."""


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
        record = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise MirRefError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    experiments = record.get("experiments") if isinstance(record, dict) else None
    if not isinstance(experiments, list) or not experiments:
        raise MirRefError(f"{path} has no list 'experiments'")
    _mapping(record, "file", str(path))
    return experiments


def _mapping(value: Any, part: str, where: str) -> dict[str, Any]:
    """A part of the file as a mapping that has known keys only."""
    if not isinstance(value, dict):
        raise MirRefError(f"{where}: a {part} must be a mapping, got {value!r}")
    for key in value:
        if key not in _KEYS[part]:
            raise MirRefError(f"{where}: unknown key {key!r} of a {part}; known: {', '.join(_KEYS[part])}")
    return value


def _list(value: Any, what: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise MirRefError(f"{where}: {what} must be a list, got {value!r}")
    return value


def requests_of(experiments: Sequence[Mapping[str, Any]], n_seeds: int = 5) -> list[Imported]:
    """One request per experiment, data set and probe.

    Raises:
        MirRefError: a data set, feature, setting or key that has no counterpart here; it is named.
    """
    found = []
    for number, item in enumerate(experiments):
        where = f"experiment {number + 1}"
        experiment = _mapping(item, "experiment", where)
        for key in ("task", "datasets", "features", "probes"):
            if not experiment.get(key):
                raise MirRefError(f"{where}: no {key!r}")
        names, options = _representations(_list(experiment["features"], "features", where), where)
        for entry in _list(experiment["datasets"], "datasets", where):
            dataset = _mapping(entry, "data set", where)
            task, task_options, scheme, warnings = _dataset(dataset, experiment["task"], where)
            deformations = _deformations(experiment, dataset, f"{where}, {task}", warnings)
            for probe in _list(experiment["probes"], "probes", where):
                notes = list(warnings)
                request = Request(
                    tasks=(task,),
                    representations=names,
                    protocol=_protocol(_mapping(probe, "probe", where), task, scheme, where, notes),
                    seeds=tuple(seeds_from(0, n_seeds)),
                    task_options={task: task_options},
                    representation_options=options,
                    deformations=deformations,
                )
                found.append(Imported(request, tuple(notes)))
    return found


def _dataset(dataset: Mapping[str, Any], task: Any, where: str) -> tuple[str, dict[str, Any], str, list[str]]:
    task = _mapping(task, "task", where)
    pair = (str(dataset.get("name")), str(task.get("name")))
    if pair not in TASKS:
        known = ", ".join(f"{d}/{t}" for d, t in TASKS)
        raise MirRefError(f"{where}: no task for data set {pair[0]!r} with {pair[1]!r}; known: {known}")
    if task.get("feature_aggregation", "mean") != "mean":
        raise MirRefError(f"{where}: feature_aggregation {task['feature_aggregation']!r}; only mean is known")
    kind = _kind(TASKS[pair])
    if task.get("type", kind) != kind:
        raise MirRefError(f"{where}: task type {task['type']!r}; {pair[0]}/{pair[1]} is a {kind}")
    if dataset.get("type", "custom") not in ("custom", "mirdata"):
        raise MirRefError(f"{where}: data set type {dataset['type']!r}; known: custom, mirdata")
    warnings = []
    split = dataset.get("split_type", "single")
    if split not in ("single", "all"):
        raise MirRefError(f"{where}: split_type {split!r}; known: single, all")
    if split == "all":
        warnings.append(f"{TASKS[pair]}: split_type 'all' is run as the strict folds, each tested once")
    options = {"root": str(dataset["dir"])} if dataset.get("dir") else {}
    return TASKS[pair], options, "strict" if split == "all" else "mir_ref", warnings


def _kind(task: str) -> str:
    """mir_ref's type of a task."""
    return ("multilabel" if task == "magnatagatune" else "multiclass") + "_classification"


def _deformations(
    experiment: Mapping[str, Any], dataset: Mapping[str, Any], where: str, warnings: list[str]
) -> tuple[str, ...]:
    """A data set's scenarios, or those of its experiment."""
    scenarios = dataset.get("deformations")
    if experiment.get("deformations"):
        if scenarios:
            raise MirRefError(f"{where}: deformations of the experiment and of the data set; keep one of them")
        scenarios = experiment["deformations"]
        warnings.append("deformations of the experiment are taken for all of its data sets; mir_ref ignores them")
    return tuple(_scenario(scenario, where) for scenario in _list(scenarios or [], "deformations", where))


def _representations(names: Sequence[Any], where: str) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    found: list[str] = []
    options: dict[str, dict[str, Any]] = {}
    for name in names:
        if match := MERT_NAME.match(str(name)):
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
    return tuple(dict.fromkeys(found)), options


def _protocol(probe: Mapping[str, Any], task: str, scheme: str, where: str, warnings: list[str]) -> Protocol:
    if probe.get("type", "classifier") != "classifier" or probe.get("optimizer", "adam") != "adam":
        raise MirRefError(f"{where}: only classifiers trained with adam are known, got {dict(probe)!r}")
    activation = "sigmoid" if _kind(task).startswith("multilabel") else "softmax"
    if probe.get("output_activation", activation) != activation:
        raise MirRefError(
            f"{where}: output_activation {probe['output_activation']!r}; probes of {task} have {activation}"
        )
    # mir_ref's own code reads neither of the first two
    for key, usual in (("emb_dim_reduction", (False, None)), ("train_sampling", ("random", None))):
        if probe.get(key) not in usual:
            warnings.append(f"{key} {probe[key]!r} is not applied (mir_ref does not apply it either)")
    if probe.get("emb_shape", "infer") != "infer":
        warnings.append(f"emb_shape {probe['emb_shape']!r} is not used: the shape is that of the features")
    base = get_protocol("mir_ref-1")
    changes: dict[str, Any] = {}
    for ours, (theirs, kind) in _NUMBERS.items():
        if probe.get(theirs) is None:
            continue
        value = _number(probe[theirs], kind, f"{where}: {theirs}")
        if ours == "batch_size" or value != getattr(base.config, ours):
            changes[ours] = value
    units = tuple(_list(probe.get("hidden_units") or [], "hidden_units", where))
    if units and set(units) in ({"infer"}, {"power_infer"}):
        changes["inferred"] = units
        warnings.append("hidden units are inferred for each feature; mir_ref keeps those of the first one")
    elif all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in units):
        if units != base.config.hidden_units:
            changes["hidden_units"] = units
    else:
        raise MirRefError(
            f"{where}: hidden_units {list(units)!r}; they are all numbers, all 'infer' or all 'power_infer'"
        )
    if scheme != base.scheme:
        changes["scheme"] = scheme
    return base.replace(**changes)


def _number(value: Any, kind: type, what: str) -> Any:
    """YAML reads 1e-5 without a point as text; that is a number all the same."""
    try:
        number = kind(float(value)) if isinstance(value, str) else kind(value)
        valid = not isinstance(value, bool) and number == float(value) and 0 <= number < float("inf")
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid or (kind is int and number < 1):
        raise MirRefError(f"{what} {value!r} is not a number that it can be")
    return number


def _scenario(scenario: Any, where: str) -> str:
    steps = []
    for item in _list(scenario, "a scenario of deformations", where):
        step = _mapping(item, "deformation", where)
        if step.get("type") not in DEFORMATIONS:
            raise MirRefError(f"{where}: deformation {step.get('type')!r}; known: {', '.join(DEFORMATIONS)}")
        kind, names = DEFORMATIONS[step["type"]]
        values = step.get("params") or {}
        known = {f"{end}_{name}" for name in names for end in ("min", "max")}
        if not isinstance(values, dict) or set(values) - known - {"p"}:
            raise MirRefError(f"{where}: {step['type']} with {values!r}; known: {', '.join(sorted(known))}, p")
        ends = [value for key, value in values.items() if key in known]
        fixed = bool(ends) and all(type(end) in (int, float) and end == ends[0] for end in ends)
        if not fixed or values.get("p", 1) != 1:
            raise MirRefError(f"{where}: {step['type']} needs one fixed value and p = 1, got {values!r}")
        steps.append(f"{kind}:{ends[0]:g}")
    try:
        return str(parse_deformation("+".join(steps)))
    except ValueError as error:
        raise MirRefError(f"{where}: {error}") from None


def export_experiments(request: Request, data: str = "data") -> str:
    """A mir_ref experiment file (YAML) for a request under mir_ref-1.

    Args:
        request: what to export.
        data: mir_ref's folder of data sets, a folder for each.

    Raises:
        MirRefError: a task, representation or setting that mir_ref does not have.
    """
    import yaml

    back = {task: pair for pair, task in reversed(TASKS.items())}
    config, protocol = request.protocol.config, request.protocol
    plain = get_protocol("mir_ref-1")
    if protocol.probes != plain.probes or protocol.learning_rates or config.standardize:
        raise MirRefError(f"mir_ref has no protocol {protocol.name!r}; only mir_ref-1 can be exported")
    if request.shuffle_labels:
        raise MirRefError("mir_ref cannot permute training labels (--shuffle-labels)")
    if unknown := [task for task in request.tasks if task not in back]:
        raise MirRefError(f"mir_ref has no task for {unknown[0]!r}; it has {', '.join(back)}")
    features = [feature_name(name, request) for name in request.representations]
    experiments = []
    for task in request.tasks:
        dataset, name = back[task]
        tags = task == "magnatagatune"
        experiments.append(
            {
                "task": {"name": name, "type": _kind(task), "feature_aggregation": "mean"},
                "datasets": [
                    {
                        "name": dataset,
                        "type": "custom" if tags else "mirdata",
                        "dir": f"{data.rstrip('/')}/{dataset}/",
                        "split_type": "single" if protocol.scheme == "mir_ref" else "all",
                        "deformations": [_audiomentations(text) for text in request.deformations],
                    }
                ],
                "features": list(features),
                "probes": [
                    {
                        "type": "classifier",
                        "emb_dim_reduction": False,
                        "emb_shape": "infer",
                        "hidden_units": list(protocol.inferred or config.hidden_units),
                        "output_activation": "sigmoid" if tags else "softmax",
                        "weight_decay": config.l2,
                        "optimizer": "adam",
                        "learning_rate": config.learning_rate,
                        "batch_size": protocol.batch_size or (1083 if tags else 64),
                        "epochs": config.max_epochs,
                        "patience": config.patience,
                        "train_sampling": "random",
                    }
                ],
            }
        )
    return yaml.safe_dump({"experiments": experiments}, sort_keys=False)


def feature_name(representation: str, request: Request) -> str:
    """mir_ref's name of a representation.

    Raises:
        MirRefError: it has none.
    """
    features = {ours: theirs for theirs, ours in FEATURES.items()}
    if representation == "mert-v1-95m":
        layers = request.representation_options.get(representation, {}).get("layers", (9, 10, 11, 12))
        return "-".join([representation, *map(str, layers)])
    if representation not in features:
        known = ", ".join([*features, "mert-v1-95m"])
        raise MirRefError(f"mir_ref has no feature for {representation!r}; it has {known}")
    return features[representation]


def _audiomentations(text: str) -> list[dict[str, Any]]:
    back = {kind: (name, parameters[0]) for name, (kind, parameters) in DEFORMATIONS.items()}
    steps = []
    for kind, amount in parse_deformation(text).steps:
        name, parameter = back[kind]
        steps.append({"type": name, "params": {f"min_{parameter}": amount, f"max_{parameter}": amount, "p": 1}})
    return steps
