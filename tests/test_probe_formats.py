"""Deformations, and mir_ref's experiment files in and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probes.deformations import parse_deformation
from probes.mirref import MirRefError, export_experiments, read_experiments, requests_of
from probes.protocol import get_protocol
from probes.request import Request

# ---- deformations ----------------------------------------------------------------------------------


def test_deformations_do_what_they_say() -> None:
    rate = 44100
    t = np.arange(rate) / rate
    audio = (0.3 * np.sin(2 * np.pi * 440 * t))[None].astype(np.float32)

    def peak(signal: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(signal[0] * np.hanning(signal.shape[1])))
        return float(spectrum.argmax() * rate / signal.shape[1])

    def level(signal: np.ndarray) -> float:
        return 10 * float(np.log10(np.mean(signal**2)))

    noisy = parse_deformation("noise:20").apply(audio, rate, 1)
    assert level(audio) - level(noisy - audio) == pytest.approx(20, abs=0.01)
    assert not np.array_equal(noisy, parse_deformation("noise:20").apply(audio, rate, 2))
    np.testing.assert_array_equal(noisy, parse_deformation("noise:20").apply(audio, rate, 1))
    assert level(parse_deformation("gain:-12").apply(audio, rate, 0)) == pytest.approx(level(audio) - 12, abs=1e-3)
    assert np.abs(parse_deformation("gain:40").apply(audio, rate, 0)).max() == 1.0
    for shift in (-5.0, 1.0, 12.0):
        shifted = parse_deformation(f"pitch:{shift}").apply(audio, rate, 0)
        assert shifted.shape == audio.shape
        assert 12 * np.log2(peak(shifted) / 440) == pytest.approx(shift, abs=0.05)
    coded = parse_deformation("mp3:128").apply(audio, rate, 0)
    assert coded.shape == audio.shape
    assert level(coded - audio) < level(audio) - 20
    both = parse_deformation("gain:-6+noise:10")
    assert str(both) == "gain:-6+noise:10"
    assert level(both.apply(audio, rate, 0)) < level(audio)


@pytest.mark.parametrize("text", ["reverb:1", "noise", "noise:loud", "pitch:40", "noise:1+"])
def test_wrong_deformations_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"deformation '"):
        parse_deformation(text)


# ---- mir_ref's files -------------------------------------------------------------------------------

EXPERIMENT = """
experiments:
  - task: {name: instrument_classification, type: multiclass_classification, feature_aggregation: mean}
    datasets:
      - name: tinysol
        type: mirdata
        dir: data/tinysol/
        split_type: single
        deformations:
          - [{type: AddGaussianSNR, params: {min_snr_in_db: 15, max_snr_in_db: 15, p: 1}}]
          - [{type: Gain, params: {min_gain_db: -12, max_gain_db: -12, p: 1}},
             {type: Mp3Compression, params: {min_bitrate: 64, max_bitrate: 64}}]
    features: [msd-musicnn, clmr-v2, mert-v1-95m-6]
    probes:
      - {type: classifier, hidden_units: [], output_activation: softmax, weight_decay: 1.0e-5,
         optimizer: adam, learning_rate: 1.0e-3, batch_size: 32, epochs: 100, patience: 10}
      - {type: classifier, hidden_units: [256, 128], weight_decay: 1.0e-4, batch_size: 32}
"""


def test_mir_ref_experiment_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(EXPERIMENT)
    linear, wide = requests_of(read_experiments(path))
    assert linear.request.tasks == ("tinysol-instrument",)
    assert linear.request.representations == ("musicnn-msd", "clmr", "mert-v1-95m")
    assert linear.request.representation_options["mert-v1-95m"]["layers"] == (6,)
    assert linear.request.deformations == ("noise:15", "gain:-12+mp3:64")
    assert linear.request.protocol.config.hidden_units == ()
    assert linear.request.protocol.batch_size == 32
    assert wide.request.protocol.config.l2 == 1e-4
    assert wide.request.protocol.config.hidden_units == (256, 128)
    assert linear.request.protocol.name != wide.request.protocol.name


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("msd-musicnn", "msd-musicn", "unknown feature 'msd-musicn'"),
        ("name: tinysol", "name: tinysl", "no task for data set 'tinysl'"),
        ("AddGaussianSNR", "Reverb", "deformation 'Reverb'"),
        ("max_snr_in_db: 15", "max_snr_in_db: 20", "one fixed value"),
        ("hidden_units: []", "hidden_units: [infer, 64]", "all numbers, all 'infer'"),
        ("split_type: single", "split_type: [1, 2]", "split_type"),
        ("experiments:", "experiment:", "no list 'experiments'"),
    ],
)
def test_what_mir_ref_files_ask_in_vain_is_named(tmp_path: Path, old: str, new: str, match: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(EXPERIMENT.replace(old, new))
    with pytest.raises(MirRefError, match=match):
        requests_of(read_experiments(path))


def test_export_is_read_back(tmp_path: Path) -> None:
    request = Request(
        ("magnatagatune", "beatport"),
        ("musicnn-msd", "mert-v1-95m"),
        get_protocol("mir_ref-1"),
        deformations=("noise:15+gain:-3", "pitch:1"),
    )
    path = tmp_path / "config.yml"
    path.write_text(export_experiments(request))
    tags, keys = requests_of(read_experiments(path))
    assert tags.request.tasks == ("magnatagatune",)
    assert tags.request.protocol.batch_size == 1083
    assert tags.request.deformations == request.deformations
    assert keys.request.representations == request.representations
    assert keys.request.protocol.config == request.protocol.config
    with pytest.raises(MirRefError, match="no feature for 'mel'"):
        export_experiments(replace(request, representations=("mel",)))
