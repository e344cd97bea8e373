"""The template of an autoencoder works as written, under any name."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from harness_helpers import run_tests, tiny_toml, write_clips

from benchmarks.autoencoders import create_autoencoder
from benchmarks.cli.main import main
from benchmarks.templates.write import class_name, write_template


def test_its_own_test_passes_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-autoencoder", "deep_codec", "-o", str(tmp_path / "mine")]) == 0
    captured = capsys.readouterr()
    code, test = (Path(line) for line in captured.out.split())
    assert (code.name, test.name) == ("deep_codec.py", "test_deep_codec.py")
    assert f"m2l-bench compare {code}:DeepCodec" in captured.err
    returncode, output = run_tests(test, capsys)
    assert returncode == 0, output
    assert "3 passed" in output


def test_its_row_stands_beside_the_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = write_template("autoencoder", "row_codec", tmp_path)
    write_clips(tmp_path / "clips", 4)
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    command = ["compare", f"mine={code}:RowCodec", "--suite", str(toml), "--executor", "serial", "--quiet"]
    command += ["--store", str(tmp_path / "store"), "--against", "noise-20db,opus-16k", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    cells = next(row for row in found["rows"] if row["name"] == "mine")["cells"]
    assert cells["si_sdr"]["n"] == 4
    assert cells["compression_ratio"]["value"] == 16
    assert main([*command, "--option", "mine.keep=4"]) == 0
    coarse = json.loads(capsys.readouterr().out)
    fewer = next(row for row in coarse["rows"] if row["name"] == "mine")["cells"]
    assert fewer["si_sdr"]["value"] < cells["si_sdr"]["value"]
    assert fewer["compression_ratio"]["value"] == 128


def test_it_is_a_row_of_table_1_too(tmp_path: Path) -> None:
    code, _ = write_template("autoencoder", "feature_codec", tmp_path)
    system = create_autoencoder(f"{code}:FeatureCodec")
    audio = np.random.default_rng(0).standard_normal((1, 44_100)).astype(np.float32)
    features = system.features(audio, 44_100)  # type: ignore[attr-defined]
    assert features.shape[0] == 1025
    from probes.representations import create_representation

    vectors = create_representation(f"autoencoder:{code}:FeatureCodec").extract(audio, 44_100)
    np.testing.assert_allclose(next(iter(vectors.values())), features.T)
    from probes.features import FeaturePlan

    name = f"autoencoder:{code}:FeatureCodec"
    before = FeaturePlan(name).identity()["code"]
    code.write_text(code.read_text().replace("np.abs(self.encode(", "2 * np.abs(self.encode("))
    assert FeaturePlan(name).identity()["code"] != before  # a changed class does not keep its old features


def test_no_name_of_the_template_is_left(tmp_path: Path) -> None:
    for path in write_template("autoencoder", "a2_b", tmp_path):
        text = path.read_text()
        assert "my_codec" not in text
        assert "MyCodec" not in text
        assert "class A2B" in text or path.name.startswith("test_")
        ast.parse(text)
    assert class_name("a2_b") == "A2B"


def test_files_that_are_there_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_kept.py").write_text("mine")
    assert main(["new-autoencoder", "kept", "-o", str(tmp_path)]) == 2
    assert "test_kept.py already exists" in capsys.readouterr().err
    assert not (tmp_path / "kept.py").exists()
    assert (tmp_path / "test_kept.py").read_text() == "mine"
    assert main(["new-autoencoder", "kept", "-o", str(tmp_path), "--overwrite"]) == 0
    assert "check_autoencoder" in (tmp_path / "test_kept.py").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Codec", "'My-Codec' cannot be a module"),
        ("../up", "cannot be a module"),
        ("class", "cannot be a module"),
        ("numpy", "installed module 'numpy'"),
        ("wave", "installed module 'wave'"),
    ],
)
def test_names_that_cannot_be_modules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert main(["new-autoencoder", name, "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
