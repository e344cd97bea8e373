"""MyCodec keeps the benchmark's contract."""

from __future__ import annotations

from pathlib import Path

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.check import check_autoencoder

NAME = f"{Path(__file__).with_name('my_codec.py')}:MyCodec"


def test_contract() -> None:
    """Any rate, mono and stereo, exact length, the same output for the same seed, no delay."""
    found = check_autoencoder(NAME)
    assert found["si_sdr"] > 10  # dB, on a few synthetic notes: set it to what your model reaches


def test_options_change_the_output() -> None:
    assert check_autoencoder(NAME, keep=4)["si_sdr"] < check_autoencoder(NAME, keep=64)["si_sdr"]


def test_spec_is_complete() -> None:
    spec = create_autoencoder(NAME).spec
    assert spec.sample_rate
    assert spec.compression_ratio
    assert create_autoencoder(NAME, keep=4).spec.options != spec.options
