"""What Table 1 rests on, against what was published: the networks' entries, the items and folds of the splits."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch

from probes.metrics import PITCH_CLASSES
from probes.representations.clmr import SampleCNN, encoder_state
from probes.representations.mert import LAYERS, mert_config
from probes.tasks.base import TaskDataError
from probes.tasks.beatport import stored
from probes.tasks.tinysol import INSTRUMENTS, METADATA, TinySOLPitch

#: First 16 digits of the sha256 of Spijkervet/CLMR's SampleCNN listing, one "name (shape)" a line, made with the
#: upstream code; and its parameters.
CLMR_LISTING, CLMR_PARAMETERS = "19ef28c4ef2de098", 2_394_162
MERT_PARAMETERS = 94_371_712


def listing_digest(state: Mapping[str, torch.Tensor]) -> str:
    """What names a listing: sha256 over its lines, 16 digits."""
    lines = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def test_clmr_listing_is_upstreams() -> None:
    with torch.device("meta"):
        model = SampleCNN()
    assert listing_digest(model.state_dict()) == CLMR_LISTING
    assert sum(parameter.numel() for parameter in model.parameters()) == CLMR_PARAMETERS


def test_the_digest_sees_names_shapes_and_order() -> None:
    with torch.device("meta"):
        state = SampleCNN().state_dict()
        other_head = SampleCNN(n_outputs=51).state_dict()
    turned = dict(reversed(state.items()))
    renamed = {name.replace("sequential", "layers"): tensor for name, tensor in state.items()}
    assert len({CLMR_LISTING, *map(listing_digest, (other_head, turned, renamed))}) == 4


def test_clmr_encoder_takes_every_upstream_entry() -> None:
    with torch.device("meta"):
        state = SampleCNN().state_dict()
    upstream = {f"encoder.{name}": tensor for name, tensor in state.items()}
    projector = {"projector.0.weight": torch.empty(512, 512, device="meta")}
    found = encoder_state({**upstream, **projector})
    assert list(found) == [name for name in state if not name.startswith("fc.")]
    assert len(found) == 77


def mert_listing() -> dict[str, tuple[int, ...]]:
    """MERT-v1-95M's `pytorch_model.bin`: HuBERT base, with the position convolution's older weight-norm names."""
    width, inner, channels = 768, 3072, 512
    found: dict[str, tuple[int, ...]] = {"masked_spec_embed": (width,)}
    for layer, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        name = f"feature_extractor.conv_layers.{layer}"
        found[f"{name}.conv.weight"] = (channels, channels if layer else 1, kernel)
        if layer == 0:
            found |= {f"{name}.layer_norm.{part}": (channels,) for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        found[f"feature_projection.layer_norm.{part}"] = (channels,)
        found[f"encoder.layer_norm.{part}"] = (width,)
    found["feature_projection.projection.weight"] = (width, channels)
    found["feature_projection.projection.bias"] = (width,)
    position = "encoder.pos_conv_embed.conv"
    found[f"{position}.bias"] = (width,)
    found[f"{position}.weight_g"] = (1, 1, 128)
    found[f"{position}.weight_v"] = (width, width // 16, 128)
    for layer in range(12):
        name = f"encoder.layers.{layer}"
        linears = {f"attention.{side}_proj": (width, width) for side in ("k", "v", "q", "out")}
        linears["feed_forward.intermediate_dense"] = (inner, width)
        linears["feed_forward.output_dense"] = (width, inner)
        for linear, shape in linears.items():
            found[f"{name}.{linear}.weight"], found[f"{name}.{linear}.bias"] = shape, shape[:1]
        for norm in ("layer_norm", "final_layer_norm"):
            found |= {f"{name}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return found


def test_mert_listing_is_upstreams() -> None:
    from transformers import HubertModel

    with torch.device("meta"):
        model = HubertModel(mert_config())
    # torch's parametrization has its own names for the two entries of the weight norm
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    found = {}
    for name, tensor in model.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        found[name] = tuple(tensor.shape)
    expected = mert_listing()
    assert found == expected
    assert len(expected) == 211
    assert sum(math.prod(shape) for shape in expected.values()) == MERT_PARAMETERS


def test_mert_gives_thirteen_states_of_which_9_to_12_are_averaged() -> None:
    config = mert_config()
    assert config.num_hidden_layers + 1 == 13, "the embedding's output is state 0"
    assert LAYERS == (9, 10, 11, 12)
    assert max(LAYERS) == config.num_hidden_layers


# ---- splits ----------------------------------------------------------------------------------------------


def ids_digest(ids: Iterable[str]) -> str:
    """sha256 over the sorted ids, 16 digits."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def test_beatport_ids_are_mir_refs() -> None:
    """The digests are of the split that mir_ref's own code makes (seed 42), recorded apart from this package."""
    assert ids_digest(stored()["validation"]) == "9ba215f934d6fafc"
    assert ids_digest(stored()["test"]) == "33d16232ddaf8a78"


def tinysol_table(folder: Path, fold_sizes: tuple[int, ...]) -> Path:
    """A metadata table of the published form and size, without audio."""
    pitches = [f"{name}{octave}" for octave in (3, 4) for name in PITCH_CLASSES]
    notes = [fold for fold, size in enumerate(fold_sizes) for _ in range(size)]
    with open(folder / METADATA, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["Path", "Fold", "Instrument (in full)", "Pitch"])
        writer.writeheader()
        for number, fold in enumerate(notes):
            pitch, instrument = pitches[number % len(pitches)], INSTRUMENTS[number % len(INSTRUMENTS)]
            writer.writerow(
                {"Path": f"x/{number}-{pitch}.wav", "Fold": fold, "Instrument (in full)": instrument, "Pitch": pitch}
            )
    return folder


def test_tinysol_folds_are_the_official_ones(tmp_path: Path) -> None:
    data = TinySOLPitch(tinysol_table(tmp_path, (583, 582, 583, 582, 583)), audio=False).load()
    (first,) = data.splits("mir_ref")
    assert (len(first.train), len(first.validation), len(first.test)) == (1748, 583, 582)
    rotations = data.splits("strict")
    assert [len(split.validation) for split in rotations] == [583, 582, 583, 582, 583]
    tested = [note for split in rotations for note in split.test]
    assert len(tested) == len(set(tested)) == 2913
    for split in rotations:
        assert not {*split.train, *split.validation} & set(split.test)


def test_other_tinysol_folds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match="published are"):
        TinySOLPitch(tinysol_table(tmp_path, (582, 583, 583, 582, 583)), audio=False).load()


# ---- speed -----------------------------------------------------------------------------------------------


def test_contest_sweeps_batch_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.cli.main import main

    size = ["--items", "64", "--dim", "16", "--epochs", "1", "--batch-sizes", "16", "32"]
    assert main(["speed", "probe", *size, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["case"].rsplit(" ", 1)[1], row["ours"]) for row in rows] == [
        (batch, f"ours {precision}") for batch in ("16", "32") for precision in ("fp32", "bf16")
    ]
    assert main(["speed", "probe", "--batch-sizes", "0"]) == 2
    assert "--batch-sizes must be at least 1, not 0" in capsys.readouterr().err
