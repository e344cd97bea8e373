"""Comparing: the statistics of several baselines at once, and the command from end to end."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_helpers import tiny_suite, tiny_toml, write_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cli.main import main
from benchmarks.compare.systems import compare
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.statistics.means import paired_difference
from benchmarks.statistics.multiple import Compared, Drawn, compare_corpora, compare_scores, simultaneous, verdict
from benchmarks.store.store import Store
from benchmarks.suite import SuiteError


def scores(values: np.ndarray, prefix: str = "clip") -> dict[str, float]:
    return {f"{prefix}{i}": float(value) for i, value in enumerate(values)}


def against(own: dict[str, float], others: dict[str, dict[str, float]], **changes: Any) -> list[Compared]:
    options: dict[str, Any] = {"resamples": 2000, "seed": 0, "level": 0.95, **changes}
    return compare_scores(own, others, **options)


# -- statistics


def test_one_baseline_is_about_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a, b = scores(rng.normal(1, 1, 60)), scores(rng.normal(0.5, 1, 60))
    found = against(a, {"b": b}, resamples=10_000)[0]
    known = paired_difference(a, b, n_resamples=10_000)
    assert found.difference == pytest.approx(known.mean, abs=1e-12)
    assert found.low == pytest.approx(known.low, abs=0.03)
    assert found.high == pytest.approx(known.high, abs=0.03)
    # The normal theory of the mean gives the same p-value.
    values = np.array([a[clip] - b[clip] for clip in a])
    z = values.mean() / (values.std(ddof=1) / math.sqrt(60))
    assert found.p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.01)


def test_more_baselines_widen_the_intervals_but_less_than_bonferroni_when_they_are_alike() -> None:
    rng = np.random.default_rng(1)
    own = scores(rng.normal(0, 1, 80))
    base = rng.normal(0, 1, 80)
    alike = {f"b{i}": scores(base + 0.01 * rng.normal(0, 1, 80)) for i in range(8)}
    unlike = {f"b{i}": scores(rng.normal(0, 5, 80)) for i in range(8)}

    def half(found: list[Compared]) -> float:
        return (found[0].high - found[0].low) / 2

    one = half(against(own, {"b0": alike["b0"]}))
    assert half(against(own, alike)) == pytest.approx(one, rel=0.1)
    one = half(against(own, {"b0": unlike["b0"]}))
    several = half(against(own, unlike))
    bonferroni = 2.734 / 1.960  # normal quantiles at 1 - 0.025 / 8 and 1 - 0.025
    assert one * 1.2 < several < one * bonferroni * 1.1


@given(
    shift=st.floats(-3, 3),
    seed=st.integers(0, 1000),
    n=st.integers(3, 30),
    k=st.integers(1, 4),
    level=st.sampled_from([0.8, 0.9, 0.95]),
)
@settings(max_examples=60, deadline=None)
def test_the_interval_and_the_p_value_say_the_same(shift: float, seed: int, n: int, k: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    own = scores(rng.normal(shift, 1, n))
    others = {f"b{i}": scores(rng.normal(0, 1 + i, n)) for i in range(k)}
    for record in against(own, others, resamples=300, level=level):
        assert record.significant == (record.p <= 1 - level + 1e-9)
        assert record.significant == (record.low > 0 or record.high < 0)
        assert record.low <= record.difference <= record.high
        assert 0 < record.p <= 1
    # Swapped, the difference changes its sign and nothing else.
    forward = against(own, {"b0": others["b0"]}, resamples=300)[0]
    back = against(others["b0"], {"own": own}, resamples=300)[0]
    assert (back.low, back.high, back.p) == pytest.approx((-forward.high, -forward.low, forward.p))


def test_order_of_clips_and_baselines_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    own = scores(rng.normal(0.2, 1, 40))
    others = {name: scores(rng.normal(0, 1, 40)) for name in "abc"}
    first = {record.against: record for record in against(own, others)}
    turned = {name: dict(reversed(others[name].items())) for name in "cab"}
    again = against(dict(reversed(own.items())), turned)
    assert [record.against for record in again] == ["c", "a", "b"]
    for record in again:
        assert record.low == pytest.approx(first[record.against].low)
        assert record.p == first[record.against].p


def test_clips_that_one_system_lacks_are_missing_there_only() -> None:
    rng = np.random.default_rng(3)
    own = scores(rng.normal(2, 0.1, 30))
    full = scores(rng.normal(0, 1, 30))
    part = {clip: full[clip] for clip in list(full)[:4]}
    part["elsewhere"] = 100.0
    found = {r.against: r for r in against(own, {"full": full, "part": part, "one": {"clip0": 1.0}})}
    assert (found["full"].n, found["part"].n) == (30, 4)
    expected = np.mean([own[clip] - full[clip] for clip in list(full)[:4]])
    assert found["part"].difference == pytest.approx(expected)
    assert found["one"].reason == "1 clips in common: at least 2 needed"


def test_infinite_and_equal_scores() -> None:
    own = scores(np.array([1.0, 2.0, 3.0, 4.0]))
    perfect = dict.fromkeys(own, math.inf)
    mixed = {**own, "clip0": math.inf}
    shifted = {clip: value - 1 for clip, value in own.items()}
    found = {r.against: r for r in against(own, {"p": perfect, "m": mixed, "same": own, "s": shifted})}
    assert verdict(found["p"], True) == "worse"
    assert verdict(found["p"], False) == "better"
    assert verdict(found["m"], True) == "not compared"
    assert (found["same"].difference, found["same"].p, found["same"].significant) == (0, 1, False)
    assert (found["s"].low, found["s"].significant) == (1, True)
    assert verdict(against(perfect, {"p": perfect})[0], True) == "no difference"


@pytest.mark.slow
def test_false_alarms_among_ten_baselines_are_as_rare_as_promised() -> None:
    """300 experiments in which nothing differs: alarms in 5 % (within 3 standard errors); ten separate intervals give
    one in a third of them."""
    alarms = separate = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        own = scores(rng.normal(0, 1, 40))
        others = {f"b{i}": scores(rng.normal(0, 1, 40)) for i in range(10)}
        alarms += any(record.significant for record in against(own, others, resamples=300, seed=seed))
        separate += any(
            paired_difference(own, other, n_resamples=300, seed=seed).significant for other in others.values()
        )
    assert alarms / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert separate / 300 > 0.2


@pytest.mark.slow
def test_simultaneous_intervals_cover_the_truth_of_skewed_scores() -> None:
    """All ten true differences lie inside in 95 % of 300 experiments (within 3 standard errors)."""
    truth = np.linspace(-1, 1, 10)
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(10_000 + seed)
        own = scores(rng.gamma(2, 1, 60))
        others = {f"b{i}": scores(rng.gamma(2, 1, 60) - truth[i]) for i in range(10)}
        found = against(own, others, resamples=300, seed=seed)
        covered += all(r.low <= t <= r.high for r, t in zip(found, truth, strict=True))
    assert covered / 300 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)


def aggregate(value: float, replicates: np.ndarray, clips: list[str]) -> dict[str, Any]:
    return {
        "value": value,
        "n": len(clips),
        "n_groups": len(clips),
        "freedom": len(clips) - 1.0,
        "replicates": replicates.tolist(),
        "replicates_of": "jackknife",
        "clips": clips,
    }


def test_corpus_distances_are_compared_replicate_by_replicate() -> None:
    rng = np.random.default_rng(4)
    clips = [f"clip{i}" for i in range(40)]
    common = rng.normal(0, 0.5, 40)  # what all systems' replicates share cancels
    own = aggregate(10.0, 10.0 + common, clips)
    others = {
        "worse": aggregate(12.0, 12.0 + common + rng.normal(0, 0.01, 40), clips),
        "like": aggregate(10.05, 10.05 + common + rng.normal(0, 0.05, 40), clips),
        "elsewhere": aggregate(1.0, common, ["a", "b"]),
        "without": {"value": 3.0, "n": 3, "clips": clips},
    }
    found = {record.against: record for record in compare_corpora(own, others, level=0.95)}
    assert verdict(found["worse"], False) == "better"
    assert verdict(found["like"], False) == "no difference"
    assert found["elsewhere"].reason == "measured on different clips"
    assert found["without"].reason == "no replicates"
    # Two comparisons at once need more than the 2.02 errors of one.
    apart = np.subtract(own["replicates"], others["worse"]["replicates"])
    error = float(np.std(apart)) * math.sqrt(39)
    half = (found["worse"].high - found["worse"].low) / 2
    assert 2.1 < half / error < 2.6
    assert (found["worse"].high + found["worse"].low) / 2 == pytest.approx(-2.0)


def test_few_draws_never_decide_and_a_wrong_level_is_named() -> None:
    deviations = np.abs(np.random.default_rng(0).normal(0, 1, (10, 1)))
    family = [Drawn("b", 4, 5.0, 5.0, 1.0)]
    found = simultaneous(family, deviations, 0.95)["b"]
    assert (found.low, found.high, found.significant) == (-math.inf, math.inf, False)
    with pytest.raises(ValueError, match=r"level=1\.5"):
        simultaneous(family, deviations, 1.5)


# -- the command

OWN = """
import numpy as np

class Quiet:
    spec = {"sample_rate": None, "channels": "mono", "compression_ratio": 2.0}

    def __init__(self, bits=10):
        self.step = 2.0 ** -bits

    def encode(self, audio):
        return np.round(audio / self.step)

    def decode(self, latents):
        return latents * self.step

class Same(Quiet):
    pass

class Broken(Quiet):
    def decode(self, latents):
        return latents.no_such_attribute
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_clips(tmp_path / "clips", 6)
    tiny_toml(tmp_path, tmp_path / "clips")
    name = f"quiet_{tmp_path.name.replace('-', '_')}"  # a module is imported once per process
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / f"{name}.py"


def run(*arguments: str) -> int:
    return main(["compare", *arguments, "--suite", "tiny.toml", "--executor", "serial", "--quiet"])


def test_a_class_beside_the_baselines(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"mine={place.name}:Quiet", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["new"] == ["mine"]
    assert [row["name"] for row in found["rows"]] == ["identity", "noise-20db", "opus-16k", "mine"]
    verdicts = {record["b"]: record["verdict"] for record in found["comparisons"]}
    assert verdicts == {"identity": "worse", "noise-20db": "better", "opus-16k": "better"}
    # Controls (ratio 1) do not compete, so the ceiling wins nothing.
    assert [(item["column"], item["names"]) for item in found["best"]] == [("si_sdr", ["mine"])]
    # 10 bits are 2^-10 steps: an error of step / sqrt(12) below the clips' level
    mean = next(row for row in found["rows"] if row["name"] == "mine")["cells"]["si_sdr"]["value"]
    assert 40 < mean < 60

    assert run(f"mine={place.name}:Quiet", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    values = {row["row"]: row for row in rows if row["column"] == "si_sdr" and not row["against"]}
    assert float(values["mine"]["value"]) == mean
    assert values["mine"]["best"] == "best"
    record = next(row for row in rows if row["against"] == "opus-16k")
    assert record["verdict"] == "better"
    assert 0 < float(record["p_adjusted"]) < 0.05

    assert run(f"mine={place.name}:Quiet", "-o", "out") == 0
    printed = capsys.readouterr().out
    assert printed.rstrip() == Path("out/compare.md").read_text().rstrip()
    for line in ("| **mine**", "### mine minus each baseline", "| opus-16k   | ▲ +", "Best SI-SDR: **mine**, "):
        assert line in printed, line
    assert {path.name for path in Path("out").iterdir()} == {"compare.md", "compare.csv", "compare.json"}
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert run(f"mine={place.name}:Quiet", "-o", "out", "--overwrite", "always") == 0
    assert before == {path: path.read_bytes() for path in Path("out").iterdir()}


def test_only_what_is_missing_is_measured(place: Path) -> None:
    suite = tiny_suite(place.parent / "clips")
    store = Store(place.parent / "store")

    def computed(*new: str, **options: Any) -> int:
        planner = Planner(suite, RunOptions(quiet=True))
        return compare(planner, store, SerialExecutor(), new, **options).report.computed

    assert computed("mp3-64k", baselines=["opus-16k"]) > 0
    assert computed("mp3-64k", baselines=["opus-16k"]) == 0
    assert computed("opus-16k", baselines=["mp3-64k"]) == 1  # the comparison of other rows
    name = f"mine={place.name}:Quiet"
    assert computed(name, baselines=["opus-16k"]) == 3 + 3 + 3  # units of two clips, mean, metadata, comparison
    assert computed(name, "mp3-64k", baselines=["opus-16k"]) == 1
    assert computed(name, system_options={"mine": {"bits": 4}}, baselines=["opus-16k"]) == 0  # not in the spec


def test_several_routes_at_once_and_stray_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export-clips", "--suite", "tiny.toml", "-o", "files", "--executor", "serial", "--quiet"]
    assert main(export) == 0
    Path("files/stray.wav").write_bytes(b"x")
    capsys.readouterr()
    status = run(
        "--external", "copies=files", "--command", "copy=/bin/cp {input} {output}", f"{place.name}:Quiet",
        "--against", "opus-16k", "--against", "noise-20db", "--json",
    )  # fmt: skip
    captured = capsys.readouterr()
    assert status == 0, captured.err
    found = json.loads(captured.out)
    assert found["new"] == [f"{place.stem}:Quiet", "copies", "copy"]
    assert "1 files belong to no clip, the first is stray.wav" in captured.err
    cells = {row["name"]: row["cells"]["si_sdr"]["value"] for row in found["rows"]}
    assert (cells["copies"], cells["copy"]) == (100.0, 100.0)
    assert found["best"][0]["names"] == ["copies", "copy"]


def test_a_baseline_without_weights_keeps_its_row(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mp3-64k", "--against", "music2latent,opus-16k", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    missing = next(row for row in found["rows"] if row["name"] == "music2latent")["cells"]["si_sdr"]
    assert "m2l-bench fetch music2latent" in missing["reason"]
    verdicts = {record["b"]: record["verdict"] for record in found["comparisons"]}
    assert verdicts == {"music2latent": "not compared", "opus-16k": "better"}


def test_a_system_without_weights_is_exit_code_3(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("music2latent", "--against", "opus-16k") == 3
    captured = capsys.readouterr()
    assert "m2l-bench fetch music2latent" in captured.err
    assert not captured.out  # no baseline was measured for it


def test_a_class_that_breaks_stops_the_comparison_before_it_starts(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{place.name}:Quiet", f"{place.name}:Broken", "--json") == 2
    captured = capsys.readouterr()
    assert f"{place.name}:21 in decode, clip clip0.wav: AttributeError" in captured.err
    assert "no_such_attribute" in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out
    assert list(Store(place.parent / "cache" / "store").keys()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["opus-17"], "did you mean 'opus-17k'"),
        (["opus-1k"], "opus can be asked for 6 to 512 kbit/s, not 1"),
        (["mp3-17k"], "MP3 has no constant rate of 17 kbit/s; it has 32, 40, 48,"),
        (["opus-16k=noise-20db"], "both called 'opus-16k'"),
        (["--external", "files"], "not of the form NAME=..."),
        (["--command", "x=cp {input}"], "no {output}"),
        (["mp3-64k", "--option", "mp3-64k=3"], "NAME.KEY=VALUE"),
        (["mp3-64k", "--option", "mp3-64k.level=3"], "level"),
        (["mp3-64k", "--metrics", "si_sdrr"], "si_sdr"),
        (["mp3-64k", "--limit", "-1"], "limit must be at least 0"),
    ],
)
def test_wrong_usage_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if not arguments:
        arguments = ["--against", "identity"]
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_options_reach_the_system_by_label(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place.parent / "late"
    main(["export-clips", "--suite", "tiny.toml", "-o", str(folder), "--executor", "serial", "--quiet"])
    import soundfile as sf

    for path in folder.glob("*.wav"):
        audio, rate = sf.read(path)
        sf.write(path, np.append(audio, np.zeros(rate)), rate, subtype="FLOAT")
    capsys.readouterr()
    assert run("--external", "late=late", "--against", "opus-16k") == 3
    assert "6 left out: longer than the clip by more than 0.1 s" in capsys.readouterr().out
    assert run("--external", "late=late", "--against", "opus-16k", "--option", "late.tolerance=1.5") == 0


def test_a_suite_without_table_2_is_refused(place: Path) -> None:
    suite = dataclasses.replace(tiny_suite(place.parent / "clips"), table2=None)
    with pytest.raises(SuiteError, match="table2"):
        compare(Planner(suite, RunOptions()), Store(place.parent / "s"), SerialExecutor(), ["identity"])
