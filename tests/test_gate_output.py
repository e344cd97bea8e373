"""Where verdicts go and what a gate reads and writes: exit codes, files that cannot be written, pins, tolerances."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_helpers import pairs, record

from benchmarks.gate import run
from benchmarks.gate.judge import GateReport, Verdict
from benchmarks.gate.output import Output, shown, status_of
from benchmarks.gate.record import Record, RecordError, baseline_text, read_baseline
from benchmarks.gate.render import junit_of_error, message, to_json, to_junit, to_markdown
from benchmarks.gate.run import Gate
from benchmarks.tables.places import Place

SAME = Verdict("si_sdr", "codec", "SI-SDR", 2, True, "same", 1.0, 1.0, n=3, n_groups=3, change=0.0, p=1.0)
WORSE, MISSING, BETTER = (replace(SAME, verdict=name) for name in ("worse", "missing", "better"))


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ((SAME,), 0), ((BETTER, SAME), 0), ((), 3), ((MISSING, SAME), 3), ((WORSE, SAME), 1), ((MISSING, WORSE), 1)
    ],
)  # fmt: skip
def test_a_verdict_goes_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verdicts: Any, status: int
) -> None:
    """A file that cannot be written is no reason to be green, and changes no other exit code."""
    report = GateReport("tiny", verdicts)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert status_of(report) == status
    said = [f"gate: {item.verdict}: {message(item)}" for item in sorted(verdicts, key=lambda v: v.verdict == "missing")
            if item.verdict in ("worse", "missing")]  # fmt: skip
    if not verdicts:
        said = ["gate: the baseline pins nothing"]
    assert Output("tiny", str(tmp_path / "gate.xml")).verdict(report) == status
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == (to_markdown(report), said)
    assert (tmp_path / "gate.xml").read_text() == to_junit(report)
    assert (tmp_path / "summary").read_text() == out + "\n"
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert Output("tiny", json=True).verdict(report) == status
    assert capsys.readouterr().out == to_json(report, status)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert Output("tiny", str(tmp_path / "gate.xml" / "x")).verdict(report) == (status or 3)
    err = capsys.readouterr().err
    assert "gate.xml/x is not written: " in err
    assert "Errno" not in err
    assert "GITHUB_STEP_SUMMARY is not written: " in err


@pytest.mark.parametrize("as_json", [False, True])
def test_why_there_is_no_verdict_is_said_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert Output("tiny", str(tmp_path / "gate.xml"), as_json).not_judged("no file", 2) == 2
    out, err = capsys.readouterr()
    assert err == "m2l-bench: no file\n"
    assert (tmp_path / "gate.xml").read_text() == junit_of_error("tiny", "no file")
    if as_json:
        assert out == '{\n  "error": "no file",\n  "status": 2,\n  "suite": "tiny"\n}\n'
    else:
        assert out == "### Gate of suite tiny: red (not judged)\n\nno file\n"


@pytest.mark.parametrize(
    ("error", "status", "expected"), [(BrokenPipeError(), 0, 0), (BrokenPipeError(), 1, 1), (OSError("full"), 0, 3),
                                      (OSError("full"), 1, 1)]
)  # fmt: skip
def test_a_verdict_that_cannot_be_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: OSError, status: int, expected: int
) -> None:
    """A closed pipe is the reader's wish; a full disk is not."""
    said: list[str] = []

    def fail(text: str, **how: Any) -> None:
        if how.get("end") == "":
            assert how["flush"] is True  # or the error would come when Python ends
            raise error
        said.append(text)

    monkeypatch.setattr("builtins.print", fail)
    monkeypatch.setattr("benchmarks.gate.output.discard_output", lambda: said.append("discarded"))
    assert shown(status, "text") == expected
    assert said[0] == "discarded"
    assert said[1:] == (
        [] if isinstance(error, BrokenPipeError) else ["m2l-bench: the verdict cannot be printed: full"]
    )


# ---------------------------------------------------------------- what a gate reads and writes

NOW = record({"si_sdr": {"codec": pairs([1.0, 2.0, 3.0]), "other": pairs([4.0, 5.0, 6.0])}})


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A gate in a checkout with results that are not committed."""
    place = Place(tmp_path / "newest", tmp_path / "reference")
    place.measured.mkdir()
    (place.measured / "table2.json").write_text("{}")
    return Gate(
        place=place, baseline=tmp_path / "b.json", tolerances={}, metrics={}, measure_command="MEASURE",
        pin_command="PIN",
    )  # fmt: skip


def results(monkeypatch: pytest.MonkeyPatch, found: Record | None) -> None:
    def read(folder: Path) -> Record:
        if found is None:
            raise FileNotFoundError(f"no results in {folder}")
        return found

    monkeypatch.setattr(run, "read_results", read)


def test_a_gate_pins_and_then_judges_by_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results(monkeypatch, NOW)
    with pytest.raises(FileNotFoundError, match=r"no baseline .*b\.json; pin the results with: PIN"):
        gate.judge()
    text = gate.pin()
    assert text == "### Baseline of suite tiny\n\nFirst baseline: 2 cells pinned.\n"
    err = capsys.readouterr().err
    assert "reference; to take over those of" in err
    assert err.endswith(f"first: MEASURE --refresh\nwritten: {gate.baseline}\n")
    assert gate.judge().counts == {"worse": 0, "missing": 0, "better": 0, "same": 2}
    assert capsys.readouterr().err == f"gate: {gate.place.newest} against {gate.baseline}\n"
    outside = replace(gate, place=replace(gate.place, measured=gate.place.reference))
    lower = pairs([0.5, 1.5, 2.5])
    results(monkeypatch, replace(NOW, cells={"si_sdr": {**NOW.cells["si_sdr"], "codec": lower}}))
    assert outside.judge().counts["worse"] == 1
    assert [outside.judge().strict, outside.judge(strict=True).strict] == [False, True]
    assert outside.judge(alpha=0.01).alpha == 0.01
    assert outside.judge(only=["table1"]).verdicts == ()
    assert replace(outside, tolerances={"si_sdr": 0.75}).judge().counts["worse"] == 0
    assert capsys.readouterr().err == ""
    text = replace(outside, tolerances={"si_sdr": 0.25}).pin(["codec"])
    assert text is not None
    assert text.startswith(
        "### Baseline of suite tiny\n\n- codec SI-SDR: 2.00 -> 1.50 (worse)\n- no longer pinned: other SI-SDR"
    )
    assert "\n\nThe new numbers against the old baseline:\n\n### Gate of suite tiny: red (1 worse, 1 same)" in text
    assert "to take over" not in capsys.readouterr().err
    assert read_baseline(gate.baseline).tolerances == {"si_sdr": 0.25}
    replace(outside, tolerances={"snr": 1.0}).pin()
    assert read_baseline(gate.baseline).tolerances == {"si_sdr": 0.25, "snr": 1.0}
    gate.baseline.write_text(json.dumps({**json.loads(gate.baseline.read_text()), "format": 1}))
    with pytest.raises(RecordError, match="baseline format 1, this version reads 2; pin the results anew with: PIN"):
        gate.judge()
    assert str(outside.pin()).startswith("### Baseline of suite tiny\n\nFirst baseline")
    assert read_baseline(gate.baseline).tolerances == {"si_sdr": 0.25, "snr": 1.0}


def test_without_results_all_that_is_pinned_is_missing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate.baseline.write_text(baseline_text(NOW))
    results(monkeypatch, None)
    report = gate.judge()
    assert (report.counts["missing"], len(report.verdicts), report.unpinned) == (2, 2, ())
    assert "no results in" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"no results in .*reference; measure them with: MEASURE"):
        gate.pin()
    (gate.place.measured / "table2.json").unlink()
    results(monkeypatch, record({}))
    before = gate.baseline.read_text()
    capsys.readouterr()
    assert gate.pin() is None
    assert capsys.readouterr().err == ""  # nothing has been measured beside the reference
    assert gate.baseline.read_text() == before
    results(monkeypatch, replace(NOW, suite="other"))
    with pytest.raises(RecordError, match=r"b\.json: the baseline is of suite 'tiny', the results of 'other'"):
        gate.judge()
