"""The ViSQOL contest runs, reports what it says it does, and refuses clearly. It asserts no times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cli.main import main
from benchmarks.speed import visqol as contest
from benchmarks.weights.find import has_weight

needs_model = pytest.mark.skipif(not has_weight("visqol-svr")[0], reason=has_weight("visqol-svr")[1])


@pytest.fixture
def short_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = contest.synthetic_pairs(1.2)
    monkeypatch.setattr(contest, "synthetic_pairs", lambda: pairs)
    monkeypatch.delenv("M2L_ORACLE", raising=False)


@pytest.mark.slow
@needs_model
@pytest.mark.usefixtures("short_pairs")
def test_contest_reports_ratio_error_and_profile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.metrics.visqol.api import visqol

    def rival(preds: np.ndarray, target: np.ndarray) -> float:
        return visqol(preds, target, contest.RATE, strict_cpp=True).moslqo + 1e-3

    monkeypatch.setattr(contest, "_rival", lambda: rival)
    assert main(["speed", "visqol", "--repeats", "1", "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clock"] == "cpu"
    assert len(report["rows"]) == 4
    for row in report["rows"]:
        assert row["difference"] == pytest.approx(1e-3, abs=1e-9)
        assert row["ratio"] == pytest.approx(row["rival_seconds"] / row["ours_seconds"])
    notes = " ".join(report["notes"])
    assert "Next bottleneck" in notes
    assert "torch on cpu" in notes


@needs_model
@pytest.mark.usefixtures("short_pairs")
def test_profile_names_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "visqol", "--profile"]) == 0
    table = capsys.readouterr().out
    for stage in ("reference", "global alignment", "gammatone", "patch search", "patch alignment", "mapping"):
        assert stage in table


@needs_model
@pytest.mark.usefixtures("short_pairs")
def test_missing_rival_is_said_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "visqol.api", None)
    assert main(["speed", "visqol", "--repeats", "1"]) == 3
    assert "make rivals" in capsys.readouterr().err


def test_missing_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "visqol", "--oracle", str(tmp_path)]) == 3
    assert "expected.csv" in capsys.readouterr().err
