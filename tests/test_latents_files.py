"""How much audio a latents file may claim to hold, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hostile_inputs import latents_file

from m2l.io.latents import LatentsError, LatentsInfo, read_latents, write_latents

#: Three latents of 4,096 samples.
INFO = LatentsInfo(1, 2, 3, 44_100, 12_288, 44_100, 4096, "m", "c", "d", "s")
LATENTS = np.arange(6, dtype=np.float32).reshape(1, 2, 3)


@pytest.mark.parametrize(
    ("rate", "samples", "fits"),
    [
        (44_100, 12_289, True),  # one more by rounding
        (44_100, 12_290, False),
        (44_100, 4096, True),  # two latents of padding
        (44_100, 4095, False),
        (22_050, 6144, True),  # twice as many at the model's rate
        (22_050, 6145, False),
        (22_050, 2048, True),
        (22_050, 2047, False),
    ],
)
def test_latents_cover_the_audio_and_no_more_than_its_padding(
    rate: int, samples: int, fits: bool, tmp_path: Path
) -> None:
    info = replace(INFO, sample_rate=rate, samples=samples)
    write_latents(tmp_path / "z.safetensors", LATENTS, info)
    if not fits:
        with pytest.raises(LatentsError, match=f"3 latents do not match {samples} samples at {rate} Hz"):
            read_latents(tmp_path / "z.safetensors")
        return
    found, told = read_latents(tmp_path / "z.safetensors")
    np.testing.assert_array_equal(found, LATENTS)
    assert told == info
    assert told.duration == samples / rate


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (str(2**47), "do not match"),
        (str(2**47 + 1), "'140737488355329', not a positive count"),
        ("0", "'0', not a positive count"),
        ("-1", "'-1', not a positive count"),
        ("²", "not a positive count"),
        ("9" * 5000, f"'{'9' * 40}', not a positive count"),
    ],
)
def test_counts_are_positive_and_no_longer_than_any_audio(samples: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "z.safetensors").write_bytes(latents_file(samples=samples))
    with pytest.raises(LatentsError, match=message):
        read_latents(tmp_path / "z.safetensors")
