"""mir_ref's experiment files and feature folders: all of them, or an error or a note that names the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_probe_edges import TASK, edge_module
from test_probe_run import HZ, INFO, RATE, tone_clips
from test_probe_stage import problem

from benchmarks.cli.main import main
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from probes.mirref import MirRefError, export_experiments, read_experiments, requests_of
from probes.mirref_features import export_features, track_paths
from probes.protocol import Protocol, get_protocol
from probes.request import Request
from probes.runner import run
from probes.stage import evaluate
from probes.tasks.base import TaskData
from probes.tasks.labeled import labeled_task


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "edge_module", edge_module())
    return


#: mir_ref ships one experiment file; this is what it asks for.
EXAMPLE: dict[str, Any] = {
    "task": {"name": "autotagging", "type": "multilabel_classification", "feature_aggregation": "mean"},
    "datasets": [
        {
            "name": "magnatagatune",
            "type": "custom",
            "dir": "data/magnatagatune/",
            "split_type": "single",
            "deformations": [
                [
                    {"type": "AddGaussianSNR", "params": {"min_snr_in_db": 15, "max_snr_in_db": 15, "p": 1}},
                    {"type": "Gain", "params": {"min_gain_in_db": -12, "max_gain_in_db": -12, "p": 1}},
                ]
            ],
        }
    ],
    "features": ["vggish-audioset", "clmr-v2", "mert-v1-95m-6"],
    "probes": [
        {
            "type": "classifier",
            "emb_dim_reduction": False,
            "emb_shape": "infer",
            "hidden_units": units,
            "output_activation": "sigmoid",
            "weight_decay": 1.0e-5,
            "optimizer": "adam",
            "learning_rate": 1.0e-3,
            "batch_size": 1083,
            "epochs": 100,
            "patience": 10,
            "train_sampling": "random",
        }
        for units in ([], ["infer"], [256, 128])
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The example with one setting changed, such as `probes.1.batch_size`."""
    record = json.loads(json.dumps(EXAMPLE))
    place: Any = record
    *parts, last = path.split(".")
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return record


def test_the_example_of_mir_ref_is_read_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "example.yml"
    path.write_text(yaml.safe_dump({"experiments": [EXAMPLE]}))
    linear, inferred, wide = requests_of(read_experiments(path))
    assert linear.request.protocol.config.hidden_units == ()
    assert wide.request.protocol.config.hidden_units == (256, 128)
    assert inferred.request.protocol.inferred == ("infer",)
    assert inferred.request.deformations == ("noise:15+gain:-12",)
    assert len({item.request.protocol.name for item in (linear, inferred, wide)}) == 3
    assert main(["probe", "import-mir-ref", str(path), "--print"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_inferred_layers_are_those_of_mir_ref() -> None:
    def widths(*inferred: str) -> tuple[int, ...]:
        return get_protocol("mir_ref-1").replace(inferred=inferred).hidden_units(512, 50)

    assert widths("infer") == (282,)  # (512 + 50) / 2, made even
    assert widths("infer", "infer") == (358, 204)
    assert widths("power_infer", "power_infer") == (204, 666)
    assert get_protocol("mir_ref-1").hidden_units(512, 50) == (256, 128)
    x, first = problem()
    second = replace(first, name="q", targets=first.targets % 2, labels=("a", "b"))
    protocol = get_protocol("mir_ref-1").replace(inferred=("infer",), max_epochs=2)
    found = evaluate(x, [first, second], protocol, (0,))
    assert all(not isinstance(found[name]["mlp"], str) for name in "pq"), "tasks of different sizes in one pass"
    with pytest.raises(ValueError, match="all 'infer'"):
        Protocol("p", "mir_ref", protocol.config, inferred=("infer", "64"))


@pytest.mark.parametrize(
    ("path", "value", "warning"),
    [
        ("probes.0.emb_dim_reduction", "pca", "emb_dim_reduction 'pca' is not applied"),
        ("probes.0.train_sampling", "balanced", "train_sampling 'balanced' is not applied"),
        ("probes.0.emb_shape", 128, "emb_shape 128 is not used"),
        ("probes.0.hidden_units", ["infer"], "inferred for each feature"),
        ("datasets.0.split_type", "all", "strict folds"),
    ],
)
def test_what_is_not_applied_is_said(path: str, value: Any, warning: str) -> None:
    assert any(warning in line for line in requests_of([changed(path, value)])[0].warnings)
    assert requests_of([EXAMPLE])[0].warnings == ()


def test_deformations_of_an_experiment_are_those_of_its_data_sets() -> None:
    record = changed("datasets.0.deformations", [])
    record["deformations"] = EXAMPLE["datasets"][0]["deformations"]
    (item, *_) = requests_of([record])
    assert item.request.deformations == ("noise:15+gain:-12",)
    assert any("deformations of the experiment" in line for line in item.warnings)
    with pytest.raises(MirRefError, match="keep one of them"):
        requests_of([changed("deformations", EXAMPLE["datasets"][0]["deformations"])])


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("probes.0.dropout", 0.5, "unknown key 'dropout' of a probe"),
        ("datasets.0.version", 2, "unknown key 'version' of a data set"),
        ("task.metric", "f1", "unknown key 'metric' of a task"),
        ("seed", 3, "unknown key 'seed' of a experiment"),
        ("probes.0.output_activation", "softmax", "output_activation 'softmax'"),
        ("probes.0.optimizer", "sgd", "only classifiers trained with adam"),
        ("probes.0.hidden_units", ["infer", 64], "hidden_units"),
        ("probes.0.hidden_units", "infer", "hidden_units must be a list"),
        ("probes.0.hidden_units", [0], "hidden_units"),
        ("probes.0.batch_size", "many", "batch_size 'many'"),
        ("probes.0.learning_rate", [1], "learning_rate"),
        ("probes.0.epochs", 1.5, "epochs 1.5"),
        ("task.type", "multiclass_classification", "is a multilabel_classification"),
        ("task", "autotagging", "a task must be a mapping"),
        ("features", "clmr-v2", "features must be a list"),
        ("features", [3], "unknown feature 3"),
        ("probes", {"type": "classifier"}, "probes must be a list"),
        ("datasets.0.deformations", [{"type": "Gain"}], "a scenario of deformations must be a list"),
        ("datasets.0.deformations", [[{"type": "Gain", "params": {"min_gain_in_db": "x"}}]], "one fixed value"),
        ("datasets.0.deformations", [[{"type": "Gain", "params": {"gain": 3}}]], "known: max_gain_db"),
        ("datasets.0.deformations", [[{"type": "PitchShift", "params": {"min_semitones": 99}}]], "pitch:99"),
    ],
)
def test_what_cannot_be_carried_over_is_named(path: str, value: Any, match: str) -> None:
    with pytest.raises(MirRefError, match=match):
        requests_of([changed(path, value)])


@pytest.mark.parametrize(
    "text", ["a: [1", "- 5", "experiments: 3", "experiments: [5]", "", "\x00", b"\xff\xfe\x00\xd8"]
)
def test_files_that_are_none_are_one_line(
    text: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["probe", "import-mir-ref", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["probe", "import-mir-ref", str(tmp_path)]) == 2


def test_several_experiments_have_a_folder_each_and_one_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probes.mirref.TASKS", {("tinysol", "pitch_class_classification"): TASK})
    monkeypatch.setattr("probes.mirref.FEATURES", {"msd-musicnn": "edge_module:Right"})
    probes = [{"hidden_units": units, "epochs": 5} for units in ([], ["infer"])]
    record = {
        "task": {"name": "pitch_class_classification"},
        "datasets": [{"name": "tinysol"}],
        "features": ["msd-musicnn"],
        "probes": probes,
    }
    path = tmp_path / "two.yml"
    path.write_text(yaml.safe_dump({"experiments": [record]}))
    how = ["--executor", "serial", "--store", str(tmp_path / "s"), "--seeds", "1", "--quiet"]
    assert main(["probe", "import-mir-ref", str(path), "--json", "--output", str(tmp_path / "out"), *how]) == 0
    records = json.loads(capsys.readouterr().out)
    assert len({item["protocol"]["name"] for item in records}) == len(records) == 2
    assert len(list((tmp_path / "out").rglob("*.json"))) == 2


@dataclass(frozen=True)
class File:
    """A tone that stands for an audio file."""

    path: str
    hz: float

    def __call__(self) -> tuple[np.ndarray, int]:
        if "damaged" in self.path:
            raise ValueError("file is damaged")
        return np.sin(2 * np.pi * self.hz * np.arange(RATE) / RATE)[None].astype(np.float32), RATE


class Notes:
    """A task of mir_ref's, with files in folders."""

    info = replace(INFO, name="tinysol-pitch", dataset="tinysol")

    def load(self) -> TaskData:
        clips = [
            replace(clip, source=Path(path).name, loader=File(path, HZ[clip.labels["pitch"]]))
            for i, clip in enumerate(tone_clips(30))
            for path in [f"/data/tinysol/audio/{'AB'[i % 2]}/x/note-{i // 2}{'-damaged' * (i == 4)}.wav"]
        ]
        return labeled_task(self.info, clips, lambda clip: clip.labels["pitch"])


def test_exported_features_lie_where_mir_ref_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`DATA/DATASET/embeddings/FEATURE/` and the path of the track below what all tracks share."""
    monkeypatch.setattr("probes.mirref.FEATURES", {"msd-musicnn": "edge_module:Right"})
    monkeypatch.setitem(sys.modules["edge_module"].__dict__, "Notes", Notes)
    request = Request(
        ("edge_module:Notes",), ("edge_module:Right",), get_protocol("mir_ref-1"), seeds=(0,), deformations=("gain:-6",)
    )
    store = str(tmp_path / "store")
    found = run(request, Store(store), make_executor("serial"), RunOptions(quiet=True))
    written = dict(export_features(found, tmp_path / "data", store))
    base = tmp_path / "data" / "tinysol" / "embeddings" / "msd-musicnn"
    left_out = {path.relative_to(base).as_posix(): why for path, why in written.items() if why is not None}
    assert left_out == {"A/x/note-2-damaged.npy": "file is damaged"}
    there = {path.relative_to(base).as_posix() for path in base.rglob("*.npy")}
    assert {"A/x/note-0.npy", "B/x/note-0.npy", "A/x/note-0_deform_0.npy"} <= there
    assert len([name for name in there if "deform" not in name]) == 29
    assert len([name for name in there if "deform" in name]) == 6, "of the clips that are tested"
    assert np.load(base / "A/x/note-0.npy").shape == (40,)
    back = run(
        replace(request, representations=(f"npy:{base}",), deformations=()),
        Store(store),
        make_executor("serial"),
        RunOptions(quiet=True),
    )
    np.testing.assert_array_equal(back.cells[0].predictions, found.cells[0].predictions)


def test_tracks_that_differ_in_the_suffix_do_not_share_features() -> None:
    clips = [
        replace(clip, loader=File(f"/d/x.{suffix}", 1.0))
        for clip, suffix in zip(tone_clips(2), ("wav", "mp3"), strict=True)
    ]
    with pytest.raises(MirRefError, match=r"'tone-000' and 'tone-001' would share the file x\.npy"):
        track_paths(clips)


def test_the_exported_file_names_the_folder_of_features() -> None:
    request = Request(("tinysol-pitch", "beatport"), ("musicnn-msd", "mert-v1-95m"), get_protocol("mir_ref-1"))
    text = export_experiments(request, "/my/data/")
    record = yaml.safe_load(text)["experiments"]
    assert [item["datasets"][0]["dir"] for item in record] == ["/my/data/tinysol/", "/my/data/beatport_key/"]
    assert record[0]["features"] == ["msd-musicnn", "mert-v1-95m-9-10-11-12"]
    assert requests_of(record)[0].request.task_options["tinysol-pitch"] == {"root": "/my/data/tinysol/"}
    for wrong in ({"protocol": get_protocol("strict-1")}, {"shuffle_labels": True}):
        with pytest.raises(MirRefError):
            export_experiments(replace(request, **wrong))  # type: ignore[arg-type]
