"""Verdicts of the gate: direction, tolerance, missing parts, and what the message names."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from gate_helpers import clip_names, corpus, pairs, record, si_sdr_record, tracks
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gate.judge import compare
from benchmarks.gate.output import status_of
from benchmarks.gate.policy import PolicyError, metric_of, parse_tolerance
from benchmarks.gate.record import CellRecord, Record
from benchmarks.gate.render import message, to_json, to_junit, to_markdown
from benchmarks.metrics.registry import list_metrics, parse_metric
from benchmarks.statistics.significance import POWER, holm, minimum_detectable, power_of

RNG = np.random.default_rng
BASE = RNG(0).normal(-3.85, 6.0, 48)


def verdict_of(before: Record, now: Record, **options: object) -> str:
    (found,) = compare(before, now, **options).verdicts  # type: ignore[arg-type]
    return found.verdict


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(0.0, "same"), (-0.05, "same"), (0.05, "same"), (-0.5, "worse"), (0.5, "better"), (-3.85, "worse")],
)
def test_a_drop_beyond_the_tolerance_is_worse(shift: float, expected: str) -> None:
    now = BASE + shift + RNG(1).normal(0, 0.1, 48)
    assert verdict_of(si_sdr_record(BASE), si_sdr_record(now)) == expected


def test_the_papers_score_halved_is_worse_and_the_message_names_everything() -> None:
    before = BASE - BASE.mean() - 3.85
    now = before - 3.85
    now[7] -= 4.0
    report = compare(si_sdr_record(before), si_sdr_record(now))
    (found,) = report.verdicts
    assert found.verdict == "worse"
    text = message(found)
    assert "codec: SI-SDR changed by -3.93" in text
    assert "from -3.85 to -7.78" in text
    assert "on 48 clips" in text
    assert "most on clip07 (-7.85)" in text
    assert status_of(report) == 1
    assert message(found) in to_markdown(report)
    assert "held" not in text


def test_the_message_says_when_clips_lie_below_what_can_be_told_apart() -> None:
    before = np.full(48, -50.0)
    before[:24] = -20.0
    now = before + np.where(np.arange(48) < 24, -5.0, 8.0)
    (found,) = compare(si_sdr_record(before), si_sdr_record(now)).verdicts
    assert found.verdict == "worse"
    assert "changed by -2.50" in message(found)
    assert "from -35.00 to -33.50" in message(found)
    assert "clamped to at least -40" not in message(found)  # both means lie above
    (low,) = compare(si_sdr_record(before - 10.0), si_sdr_record(now - 10.0)).verdicts
    assert "(clips clamped to at least -40)" in message(low)


def test_lower_is_better_turns_the_direction() -> None:
    reference = [RNG(i).standard_normal((6, 4)) for i in range(16)]
    near = corpus(reference, [x + 0.2 * RNG(50 + i).standard_normal(x.shape) for i, x in enumerate(reference)])
    far = corpus(reference, [x + 1.0 + RNG(90 + i).standard_normal(x.shape) for i, x in enumerate(reference)])
    close, off = record({"fad:vggish": {"codec": near}}), record({"fad:vggish": {"codec": far}})
    assert verdict_of(close, off) == "worse"
    assert verdict_of(off, close) == "better"
    assert verdict_of(close, close) == "same"


def test_the_clips_that_pull_a_distance_up_are_named() -> None:
    reference = [RNG(i).standard_normal((8, 3)) for i in range(20)]
    near = [x + 0.1 * RNG(50 + i).standard_normal(x.shape) for i, x in enumerate(reference)]
    broken = [x + (3.0 if i in (4, 11) else 0.0) for i, x in enumerate(near)]
    before, now = (record({"fad:vggish": {"codec": corpus(reference, x)}}) for x in (near, broken))
    (found,) = compare(before, now).verdicts
    assert {clip for clip, _ in found.clips[:2]} == {"clip04", "clip11"}


def test_a_distance_that_is_negative_by_its_convention_is_tested_as_it_is() -> None:
    """kadtk's KAD of a system close to its originals."""
    clips = tuple(clip_names(20))

    def cell(value: float) -> Record:
        replicates = tuple(value + RNG(int(100 * abs(value))).normal(0, 0.001, 20))
        return record({"kad:vggish": {"codec": CellRecord(value, {}, replicates, "jackknife", clips)}})

    assert verdict_of(cell(-0.59), cell(-0.31)) == "worse"
    assert verdict_of(cell(-0.31), cell(-0.59)) == "better"
    assert verdict_of(cell(-0.59), cell(-0.585)) == "same"


def test_chance_beyond_the_tolerance_is_same_and_says_so() -> None:
    now = BASE + RNG(3).normal(-0.3, 3.0, 48)
    report = compare(si_sdr_record(BASE), si_sdr_record(now))
    (found,) = report.verdicts
    assert found.harm > found.tolerance
    assert found.verdict == "same"
    assert found.detectable > 1.0
    assert "within chance: codec SI-SDR" in to_markdown(report)


def test_strict_counts_what_chance_could_explain_but_not_what_the_tolerance_covers() -> None:
    lost, gained, little = (np.zeros(8) for _ in range(3))
    lost[2], gained[2], little[2] = -2.0, 2.0, -0.6
    before = si_sdr_record(BASE[:8])
    for shifts, plain, strict in ((lost, "same", "worse"), (gained, "same", "better"), (little, "same", "same")):
        now = si_sdr_record(BASE[:8] + shifts)
        assert verdict_of(before, now) == plain
        assert verdict_of(before, now, strict=True) == strict
    assert "strict" in to_markdown(compare(before, before, strict=True))


def test_a_single_clip_that_collapses_is_worse_whatever_the_mean_says() -> None:
    now = BASE.copy()
    now[3] = 2.0
    before = BASE.copy()
    before[3] = 14.0
    report = compare(si_sdr_record(before), si_sdr_record(now))
    (found,) = report.verdicts
    assert found.p > 0.005
    assert found.collapsed == ("clip03",)
    assert found.verdict == "worse"
    assert "; 1 clip collapsed; most on clip03 (-12.00)" in message(found)


def test_scores_that_mean_nothing_and_perfect_ones_do_not_alarm() -> None:
    """Below -40 dB chance decides, above 100 dB rounding; identity has an infinite score."""
    noise = RNG(0).normal(-62, 8, 20).clip(max=-45)
    assert verdict_of(si_sdr_record(noise), si_sdr_record(noise - 9 * RNG(1).random(20))) == "same"
    perfect = np.full(20, math.inf)
    assert verdict_of(si_sdr_record(perfect), si_sdr_record(np.full(20, 140.0))) == "same"
    assert verdict_of(si_sdr_record(perfect), si_sdr_record(np.full(20, 60.0))) == "worse"


# ---------------------------------------------------------------- missing


def without(cell: CellRecord, count: int) -> CellRecord:
    kept = dict(list(cell.scores.items())[count:])
    gone = dict.fromkeys(list(cell.scores)[:count], "shorter than 1 s")
    return CellRecord(float(np.mean(list(kept.values()))), scores=kept, failures=gone)


FULL = record({"si_sdr": {"codec": pairs(BASE), "other": pairs(BASE + 1)}, "visqol": {"codec": pairs(BASE / 9 + 3)}})


@pytest.mark.parametrize(
    ("now", "reason", "count"),
    [
        (replace(FULL, metrics={"visqol": FULL.metrics["visqol"]}), "no such metric", 2),
        (replace(FULL, systems={"codec": {}}), "no such system", 1),
        (
            replace(FULL, cells={**FULL.cells, "visqol": {"codec": CellRecord(None, reason="weights not found")}}),
            "not measured: weights not found",
            1,
        ),
        (
            replace(FULL, cells={**FULL.cells, "visqol": {"codec": without(FULL.cells["visqol"]["codec"], 2)}}),
            r"2 of 48 clips are missing: clip00, clip01 (shorter than 1 s)",
            1,
        ),
        (replace(FULL, clips_sha256="other"), "the audio of the suite is not the pinned one", 3),
    ],
    ids=["metric", "system", "value", "clips", "audio"],
)
def test_what_is_gone_never_passes(now: Record, reason: str, count: int) -> None:
    report = compare(FULL, now)
    missing = report.of("missing")
    assert len(missing) == count
    assert all(reason in message(item) for item in missing)
    assert status_of(report) == 3


def test_worse_shows_through_missing_clips_and_other_audio() -> None:
    now = si_sdr_record([math.nan, *(BASE[1:] - 2.0)], clips_sha256="other")
    report = compare(si_sdr_record(BASE), now)
    assert status_of(report) == 1
    assert "besides, 1 of 48 clips are missing" in message(report.verdicts[0])


@given(st.sets(st.integers(0, 47), min_size=1, max_size=47), st.floats(-0.05, 30))
@settings(max_examples=25, deadline=None)
def test_fewer_clips_are_never_same_or_better(gone: set[int], gain: float) -> None:
    """Not even where those that are left are better."""
    now = BASE + gain
    now[list(gone)] = math.nan
    assert verdict_of(si_sdr_record(BASE), si_sdr_record(now)) == "missing"


def test_distances_need_the_same_clips_and_replicates() -> None:
    reference = [RNG(i).standard_normal((6, 4)) for i in range(12)]
    outputs = [x + 0.3 * RNG(50 + i).standard_normal(x.shape) for i, x in enumerate(reference)]
    cell = corpus(reference, outputs)

    def now(cell: CellRecord, **changes: object) -> str:
        before = record({"fad:vggish": {"codec": corpus(reference, outputs)}})
        (found,) = compare(before, record({"fad:vggish": {"codec": cell}}, **changes)).verdicts
        return f"{found.verdict}: {found.reason}"

    assert now(cell) == "same: "
    assert "missing: no replicates" in now(replace(cell, replicates=(), clips=()))
    assert "missing: 1 of 12 clips" in now(corpus(reference[:11], outputs[:11]))
    assert "missing: measured on 12 clips" in now(replace(cell, clips=cell.clips[::-1]))
    halves = replace(cell, replicates_of="half samples")
    assert "missing: other replicates: 12 (half samples) of 12 groups, seed 0, pinned 12 (jackknife)" in now(halves)
    assert "missing: other replicates: 12 (jackknife) of 12 groups, seed 3" in now(cell, seed=3)
    assert "missing: other replicates: 12 (jackknife) of 11 groups" in now(cell, groups=tracks([2]))


def test_an_empty_baseline_gates_nothing_and_is_missing() -> None:
    assert status_of(compare(record({}), FULL)) == 3


def test_new_cells_and_other_weights_are_told() -> None:
    before = si_sdr_record(BASE, systems={"codec": {"weights_sha256": "a" * 64}})
    now = record(
        {"si_sdr": {"codec": pairs(BASE), "newcomer": pairs(BASE)}},
        systems={"codec": {"weights_sha256": "b" * 64}, "newcomer": {}},
        about={"m2l": "0.2.0", "libraries": {"numpy": "3"}},
    )
    report = compare(before, now)
    assert report.unpinned == (("si_sdr", "newcomer"),)
    assert report.notes == ("codec: weights aaaaaaaaaaaa -> bbbbbbbbbbbb", "numpy 2 -> 3")
    text = to_markdown(report)
    assert "not pinned: newcomer si_sdr" in text
    assert "numpy 2 -> 3" in text


# ---------------------------------------------------------------- statistics


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_no_correction_and_bonferroni(values: list[float]) -> None:
    adjusted = holm(values)
    for p, q in zip(values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(values) * p) + 1e-12
    assert [q for _, q in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)


def test_more_cells_and_wider_spread_raise_what_can_be_detected() -> None:
    small = minimum_detectable(0.05, 47, 0.1, 1, 0.005)
    assert small < minimum_detectable(0.05, 47, 0.1, 60, 0.005) < minimum_detectable(0.2, 47, 0.1, 60, 0.005)
    assert minimum_detectable(0.0, 47, 0.1, 60, 0.005) == 0.1


def test_one_clip_and_distances_without_replicates_are_judged_by_tolerance_alone() -> None:
    assert verdict_of(si_sdr_record([5.0]), si_sdr_record([4.0])) == "worse"
    assert verdict_of(si_sdr_record([5.0]), si_sdr_record([4.95])) == "same"
    before, near, far = (record({"fad:vggish": {"codec": CellRecord(v)}}) for v in (1.0, 1.01, 1.1))
    assert verdict_of(before, near) == "same"
    assert verdict_of(before, far) == "worse"


def test_tolerances_of_the_caller_go_before_pinned_ones() -> None:
    before = si_sdr_record(BASE, tolerances={"si_sdr": 1.0})
    now = si_sdr_record(BASE - 0.5)
    assert verdict_of(before, now) == "same"
    assert verdict_of(before, now, tolerances={"si_sdr": 0.2}) == "worse"
    assert metric_of("fad:vggish", {"fad": 0.5}).allowed_change(100.0) == 0.5
    assert metric_of("fad:vggish", {"fad": 0.5, "fad:vggish": 0.1}).allowed_change(100.0) == 0.1
    assert metric_of("fad:vggish").allowed_change(100.0) == pytest.approx(2.0)


def test_the_gate_judges_every_metric_by_its_own_direction_and_tolerance() -> None:
    for name in list_metrics():
        metric, judged = parse_metric(name), metric_of(name)
        assert judged.higher_is_better == metric.higher_is_better
        assert judged.tolerance == metric.tolerance > 0.0


@pytest.mark.parametrize("text", ["si_sdr", "si_sdr=much", "si_sdr=-1", "si_sdr=inf", "sisdr=1", "=1"])
def test_a_wrong_tolerance_is_named(text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        parse_tolerance(text)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1, math.nan])
def test_a_wrong_alpha_is_named(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha}"):
        compare(FULL, FULL, alpha=alpha)


def test_another_suites_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="'tiny', the results of 'open'"):
        compare(FULL, replace(FULL, suite="open"))


def test_the_stated_power_is_the_inverse_of_what_can_be_detected() -> None:
    least = minimum_detectable(0.05, 17, 0.1, 60, 0.005)
    assert power_of(least, 0.05, 17, 0.1, 60, 0.005) == pytest.approx(POWER)
    assert power_of(least / 2, 0.05, 17, 0.1, 60, 0.005) < 0.5
    assert (power_of(0.2, 0.0, 17, 0.1, 60, 0.005), power_of(0.05, 0.0, 17, 0.1, 60, 0.005)) == (1.0, 0.0)
    assert math.isnan(power_of(0.2, math.nan, 0, 0.1, 60, 0.005))


# ---------------------------------------------------------------- groups


def grouped(scores: np.ndarray, sizes: list[int]) -> Record:
    return si_sdr_record(scores, groups=tracks(sizes))


def test_clips_of_one_track_do_not_outvote_the_others() -> None:
    """The same scores: 48 clips that got worse are a regression, two tracks of 24 clips may be chance."""
    now = BASE - 0.5 + RNG(1).normal(0, 0.1, 48)
    assert verdict_of(si_sdr_record(BASE), si_sdr_record(now)) == "worse"
    for sizes, expected in (([4] * 12, "worse"), ([24, 24], "same"), ([48], "worse")):  # one track: by tolerance alone
        assert verdict_of(grouped(BASE, sizes), grouped(now, sizes)) == expected
    assert verdict_of(grouped(BASE, [24, 24]), grouped(now, [24, 24]), strict=True) == "worse"


@given(st.lists(st.integers(1, 6), min_size=2, max_size=12), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_groups_of_one_size_are_tested_as_their_means(sizes: list[int], seed: int) -> None:
    """Otherwise the interval is no narrower than that of as many groups of one size."""
    shifts = RNG(seed).normal(-1, 1, sum(sizes))
    zeros = np.zeros(len(shifts))
    (found,) = compare(grouped(zeros, sizes), grouped(shifts, sizes)).verdicts
    assert (found.n, found.n_groups) == (len(shifts), len(sizes))
    assert found.low <= found.change <= found.high
    if len(set(sizes)) == 1:
        means = shifts.reshape(len(sizes), -1).mean(axis=1)
        (alone,) = compare(si_sdr_record(0 * means), si_sdr_record(means)).verdicts
        assert (found.p, found.low, found.high) == pytest.approx((alone.p, alone.low, alone.high))


def test_the_pull_on_a_distance_is_that_of_groups() -> None:
    groups = tracks([4] * 5)
    reference = [RNG(i).standard_normal((8, 3)) for i in range(20)]
    near = [x + 0.1 * RNG(50 + i).standard_normal(x.shape) for i, x in enumerate(reference)]
    broken = [x + (3.0 if 8 <= i < 12 else 0.0) for i, x in enumerate(near)]
    before, now = (
        record({"fad:vggish": {"codec": corpus(reference, x, groups)}}, groups=groups) for x in (near, broken)
    )
    (found,) = compare(before, now, strict=True).verdicts
    assert (found.n, found.n_groups) == (20, 5)
    assert found.clips[0][0] == "track2"
    assert len(found.clips) == 5
    assert "on 20 clips of 5 groups; pulled most by track2" in message(found)


def test_every_output_says_clips_and_groups() -> None:
    sizes = [4] * 12
    report = compare(grouped(BASE, sizes), grouped(BASE - 1 + RNG(1).normal(0, 0.1, 48), sizes))
    text = to_markdown(report)
    assert "on 48 clips of 12 groups" in text
    assert "| 48 (12) " in text
    assert "SI-SDR: a change of 0.500 in 48 clips of 12 groups is caught with probability 1.00" in text
    assert "on 48 clips of 12 groups" in to_junit(report)
    (found,) = json.loads(to_json(report, 1))["verdicts"]
    assert (found["n"], found["n_groups"]) == (48, 12)
    alone = to_markdown(compare(si_sdr_record(BASE), si_sdr_record(BASE)))
    assert "a change of 0.500 in 48 clips is caught" in alone


def test_other_groups_than_pinned_are_told() -> None:
    report = compare(si_sdr_record(BASE), si_sdr_record(BASE, groups=tracks([2, 2])))
    assert report.notes == ("4 clips belong to other groups than pinned",)


# ---------------------------------------------------------------- output


def test_junit_counts_failures_and_errors() -> None:
    now = replace(FULL, cells={"si_sdr": {"codec": pairs(BASE - 2), "other": pairs(BASE + 1)}, "visqol": {}})
    report = compare(FULL, now)
    root = ElementTree.fromstring(to_junit(report).split("\n", 1)[1])
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "codec: SI-SDR changed by -2.000" in str(failure.get("message"))
    assert "clip00: -2" in str(failure.text)


def test_json_is_json_and_holds_every_clip() -> None:
    report = compare(si_sdr_record(np.full(3, math.inf)), si_sdr_record([50.0, 50.0, 49.0]))
    found = json.loads(to_json(report, 1), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["counts"] == {"worse": 1, "missing": 0, "better": 0, "same": 0}
    (only,) = found["verdicts"]
    assert only["baseline"] == "inf"
    assert only["clips"] == dict(zip(clip_names(3), [-50.0, -50.0, -51.0], strict=True))
