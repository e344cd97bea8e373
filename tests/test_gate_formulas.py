"""The gate's figures: changes, errors, intervals, powers and tolerances by hand or by SciPy's Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from gate_helpers import clip_names, corpus, pairs, record, si_sdr_record, tracks
from scipy import stats

from benchmarks.gate.evidence import Evidence, evidence_of
from benchmarks.gate.judge import SAMPLE, Verdict, compare
from benchmarks.gate.policy import ALPHA, PolicyError, family_of, metric_of, parse_tolerance, spread_tolerance
from benchmarks.gate.record import CellRecord, Record
from benchmarks.metrics.base import Metric, PairMetric
from benchmarks.metrics.registry import parse_metric

SI_SDR = parse_metric("si_sdr")
FAD = parse_metric("fad:vggish")


def only(before: Record, now: Record, **options: object) -> Verdict:
    (found,) = compare(before, now, **options).verdicts  # type: ignore[arg-type]
    return found


# ---------------------------------------------------------------- evidence


def test_the_change_of_a_mean_with_the_jackknife_over_groups() -> None:
    """Eight clips of four tracks; one score lies below what the gate tells apart, one above."""
    before = np.array([3.0, 4.0, -90.0, 7.0, 1.0, 2.0, 300.0, 5.0])
    now = np.array([2.5, 4.25, -38.0, 6.0, 1.5, 1.0, 99.0, 3.0])
    sizes, change = [3, 2, 2, 1], np.array([-0.5, 0.25, 2.0, -1.0, 0.5, -1.0, -1.0, -2.0])
    cells = (pairs(before), pairs(now))
    records = (si_sdr_record(before, groups=tracks(sizes)), si_sdr_record(now, groups=tracks(sizes)))
    found, gap = evidence_of(*cells, SI_SDR, 0.1, records)
    assert found is not None
    assert gap == ""
    of = np.repeat(np.arange(4), sizes)
    left_out = np.array([change[of != group].mean() for group in range(4)])
    error = math.sqrt(3 / 4 * np.square(left_out - left_out.mean()).sum())
    freedom = 64 / (9 + 4 + 4 + 1) - 1
    half = error * stats.t(freedom).ppf(0.975)
    assert (found.n, found.n_groups, found.change, found.effect) == (8, 4, change.mean(), change.mean())
    assert (found.error, found.freedom) == (pytest.approx(error), pytest.approx(freedom))
    assert (found.low, found.high) == (pytest.approx(change.mean() - half), pytest.approx(change.mean() + half))
    assert found.clips == (
        ("clip07", -2.0), ("clip03", -1.0), ("clip05", -1.0), ("clip06", -1.0), ("clip00", -0.5), ("clip01", 0.25),
        ("clip04", 0.5), ("clip02", 2.0),
    )  # fmt: skip
    lower, _ = evidence_of(*cells, parse_metric("lsd"), 0.1, records)
    assert lower is not None
    assert lower.clips[0] == ("clip04", 0.5)  # more is worse; what lies below the best value, 0, counts as 0
    assert lower.clips[-1] == ("clip06", -201.0)
    one, _ = evidence_of(
        pairs(before[:2]), pairs(now[:2]), SI_SDR, 0.1, tuple(replace(r, groups=tracks([2])) for r in records)
    )  # type: ignore[arg-type]
    assert one is not None
    assert (one.n, one.n_groups, one.change) == (2, 1, -0.125)
    assert math.isnan(one.error)
    two, _ = evidence_of(pairs(before[:2]), pairs(now[:2]), SI_SDR, 0.1, (si_sdr_record([]), si_sdr_record([])))
    assert two is not None
    assert (two.n_groups, two.freedom, two.error) == (2, 1.0, pytest.approx(0.375))


def distance(value: float, replicates: list[float], clips: int | None = None) -> CellRecord:
    names = tuple(clip_names(clips or len(replicates)))
    return CellRecord(value, replicates=tuple(replicates), replicates_of="jackknife", clips=names)


def test_the_change_of_a_distance_on_the_logarithm() -> None:
    before, now = distance(2.0, [1.5, 2.5, 2.25, 1.75]), distance(3.0, [2.0, 4.0, 3.5, -0.25])
    records = (record({"fad:vggish": {"codec": before}}), record({"fad:vggish": {"codec": now}}))
    found, gap = evidence_of(before, now, FAD, 0.5, records)
    assert found is not None
    assert gap == ""
    shifts = np.log([2.5, 4.5, 4.0, 0.5]) - np.log([2.0, 3.0, 2.75, 2.25])
    error = math.sqrt(3 / 4 * np.square(shifts - shifts.mean()).sum())
    effect, half = math.log(3.5 / 2.5), error * stats.t(3).ppf(0.975)
    assert (found.n, found.n_groups, found.change, found.freedom) == (4, 4, 1.0, 3.0)
    assert (found.effect, found.error) == (pytest.approx(effect), pytest.approx(error))
    assert found.low == pytest.approx(2.5 * (math.exp(effect - half) - 1))
    assert found.high == pytest.approx(2.5 * (math.exp(effect + half) - 1))
    pulls = dict(zip(clip_names(4), 3 * (shifts.mean() - shifts), strict=True))
    assert dict(found.clips) == pytest.approx(pulls)
    assert [clip for clip, _ in found.clips] == sorted(pulls, key=lambda clip: -pulls[clip])
    for change in (-1.5, 0.0, 4.0):
        assert found.on_scale(change) == pytest.approx(math.log((2.5 + change) / 2.5))
        assert found.from_scale(found.on_scale(change)) == pytest.approx(change)
    assert found.from_scale(1e4) == math.inf
    exact, _ = evidence_of(before, now, FAD, 0.0, records)
    assert exact is not None
    assert exact.offset == 1e-9


def test_a_distance_below_its_tolerance_s_mirror_is_compared_as_it_is() -> None:
    def changed(value: float) -> Evidence:
        before, now = distance(value, [value - 0.25, value + 0.25]), distance(-0.25, [-0.125, -0.5])
        records = (record({"kad:vggish": {"codec": before}}), record({"kad:vggish": {"codec": now}}))
        found, _ = evidence_of(before, now, parse_metric("kad:vggish"), 0.5, records)
        assert found is not None
        return found

    plain = changed(-0.75)
    assert (plain.offset, plain.effect, plain.change, plain.start) == (None, 0.5, 0.5, -0.75)
    half = plain.error * stats.t(1).ppf(0.975)
    assert (plain.error, plain.low, plain.high) == (0.4375, pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert (plain.on_scale(0.3), plain.from_scale(0.3)) == (0.3, 0.3)
    edge = changed(-0.5)
    assert (edge.offset, edge.start, edge.effect) == (0.5, 0.0, 0.0)  # slightly below 0 means 0


def test_what_has_neither_scores_nor_replicates_is_judged_by_its_tolerance() -> None:
    point = replace(FAD, floor=None)
    found, gap = evidence_of(CellRecord(1.0, n=7), CellRecord(1.5), point, 0.1, (si_sdr_record([]), si_sdr_record([])))
    assert found == Evidence(7, 7, 0.5, 0.5)
    assert gap == ""
    counted, _ = evidence_of(
        CellRecord(1.0, clips=("a", "b")), CellRecord(1.5, clips=("a", "b")), point, 0.1,
        (si_sdr_record([]), si_sdr_record([])),
    )  # fmt: skip
    assert counted is not None
    assert counted.n == 2
    none, gap = evidence_of(
        pairs([1.0, 2.0, 3.0, 4.0]), pairs([math.nan] * 4), SI_SDR, 0.1, (si_sdr_record([]), si_sdr_record([]))
    )
    assert none is None
    assert gap == "4 of 4 clips are missing: clip00, clip01, clip02, ..."
    _, three = evidence_of(
        pairs([1.0, 2.0, 3.0, 4.0]), pairs([math.nan] * 3 + [1.0]), SI_SDR, 0.1, (si_sdr_record([]), si_sdr_record([]))
    )
    assert three == "3 of 4 clips are missing: clip00, clip01, clip02"


# ---------------------------------------------------------------- verdicts


def test_a_verdict_says_what_could_be_caught_and_how_probably() -> None:
    base, shifts = np.linspace(-3, 9, 12), np.array([0.3, -0.2, 0.1, -0.4, 0.2, 0.0, 0.5, -0.1, 0.2, -0.3, 0.4, 0.1])
    cells = {"a": pairs(base), "b": pairs(base), "c": pairs(base)}
    now = {"a": pairs(base + shifts), "b": pairs(base - shifts), "c": pairs(base + 2 * shifts)}
    report = compare(record({"si_sdr": cells}), record({"si_sdr": now}), alpha=0.01)
    law = stats.t(11)
    for found, sign, factor in zip(report.verdicts, (1, -1, 1), (1, 1, 2), strict=True):
        error = factor * stats.sem(shifts)
        hurdle = max(0.1, law.isf(0.01 / 3) * error)
        assert found.change == pytest.approx(sign * factor * shifts.mean())
        assert found.detectable == pytest.approx(hurdle + law.ppf(0.95) * error)
        assert (found.sample_change, found.tolerance) == (0.5, 0.1)
        assert found.power == pytest.approx(law.cdf((0.5 - hurdle) / error))
    harm = [law.sf(-sign * shifts.mean() / stats.sem(shifts)) for sign in (1, -1, 1)]
    assert report.verdicts[1].p == pytest.approx(min(1.0, 3 * harm[1]))
    assert report.verdicts[0].p == report.verdicts[2].p == pytest.approx(min(1.0, max(3 * harm[1], 2 * harm[0])))


def test_worse_is_beyond_the_tolerance_and_below_alpha() -> None:
    """Changes of -t or t in one of two directions, whose p is on either side of alpha."""
    base = np.linspace(0, 11, 12)
    noise = np.tile([1.0, -1.0], 6)
    law = stats.t(11)

    def verdict(mean: float, scale: float, **options: object) -> str:
        return only(si_sdr_record(base), si_sdr_record(base + mean + scale * noise), **options).verdict

    critical = law.isf(ALPHA) * math.sqrt(1 / 11)  # of a noise of 1
    for sign, name in ((-1, "worse"), (1, "better")):
        assert verdict(sign * 1.01 * critical, 1.0) == name
        assert verdict(sign * 0.99 * critical, 1.0) == "same"
        assert verdict(sign * 0.99 * critical, 1.0, strict=True) == name
        assert verdict(sign * 0.11, 0.001) == name
        assert verdict(sign * 0.09, 0.001) == "same"
        assert verdict(sign * 0.09, 0.001, strict=True) == "same"
    assert verdict(-0.99 * critical, 1.0, alpha=0.0022) == "worse"
    chance = only(si_sdr_record(base), si_sdr_record(base - 0.9 * critical + noise))
    assert chance.reason == "beyond the tolerance, but within chance"
    assert only(si_sdr_record(base), si_sdr_record(base + 0.9 * critical + noise)).reason == ""
    assert (ALPHA, SAMPLE) == (0.002, 5.0)  # as docs/guides/ci.md and the report say
    for alpha in (0.0, 0.5, -1.0):
        with pytest.raises(ValueError, match=f"alpha={alpha}"):
            verdict(0.0, 1.0, alpha=alpha)
    assert verdict(0.0, 1.0, alpha=0.49) == "same"


def test_a_clip_collapses_beyond_the_metrics_limit() -> None:
    base = np.linspace(20, 31, 12)
    for loss, collapsed in ((9.99, ()), (10.0, ()), (10.01, ("clip05",))):
        now = base.copy()
        now[5] -= loss
        assert only(si_sdr_record(base), si_sdr_record(now)).collapsed == collapsed
        gained = base.copy()
        gained[5] += loss
        assert only(si_sdr_record(base), si_sdr_record(gained)).collapsed == ()


def test_a_clip_collapses_upward_where_less_is_better() -> None:
    limit, base = parse_metric("lsd").collapse, np.linspace(2, 13, 12)
    assert limit is not None

    def lsd(scores: np.ndarray) -> Record:
        return Record(
            "tiny", "", 0, {"lsd": {"title": "LSD", "digits": 2}}, {"codec": {}}, {"lsd": {"codec": pairs(scores)}}
        )

    for change, collapsed in ((0.99, ()), (1.01, ("clip05",)), (-1.01, ())):
        now = base + limit * change * (np.arange(12) == 5)
        assert only(lsd(base), lsd(now)).collapsed == collapsed


def test_a_change_as_large_as_the_tolerance_is_let_through() -> None:
    for limit, reason in ((0.5, ""), (0.49, "beyond the tolerance, but within chance")):
        found = only(si_sdr_record([1.0, 2.0]), si_sdr_record([1.0, 1.0]), tolerances={"si_sdr": limit})
        assert (found.verdict, found.reason, found.harm) == ("same", reason, 0.5)
    for sign, name in ((-1, "worse"), (1, "better")):
        now = si_sdr_record([1.0 + sign * 0.5, 2.0 + sign * 0.5])
        for limit, verdict in ((0.5, "same"), (0.499, name)):
            options = {"tolerances": {"si_sdr": limit}, "strict": True}
            assert only(si_sdr_record([1.0, 2.0]), now, **options).verdict == verdict


def test_more_of_a_distance_is_worse() -> None:
    shifts = np.log([2.5, 4.5, 4.0, 0.5]) - np.log([2.0, 3.0, 2.75, 2.25])
    error, effect = math.sqrt(3 / 4 * np.square(shifts - shifts.mean()).sum()), math.log(3.5 / 2.5)
    near, far = (
        record({"fad:vggish": {"codec": cell}})
        for cell in (distance(2.0, [1.5, 2.5, 2.25, 1.75]), distance(3.0, [2.0, 4.0, 3.5, 0.0]))
    )
    law, limit = stats.t(3), {"fad:vggish": 0.5}
    assert only(near, far, tolerances=limit).p == pytest.approx(law.sf(effect / error))
    assert only(far, near, tolerances=limit).p == pytest.approx(law.cdf(effect / error))


def test_a_probe_is_judged_by_its_seeds_here_and_by_both_spreads_elsewhere() -> None:
    here, there = {"model": "A", "vectors": "avx2"}, {"model": "B", "vectors": "avx2"}
    cell = CellRecord(53.0, seeds=(50.0, 52.0, 57.0), n=10_000)
    other = CellRecord(53.5, seeds=(51.0, 56.0), n=10_000)

    def probe(cell: CellRecord, processor: Mapping[str, str]) -> Record:
        metrics = {"mtt/ap": {"title": "AP", "digits": 1, "data": "d"}}
        return Record("tiny", "", 0, metrics, {"mel": {}}, {"mtt/ap": {"mel": cell}}, {"processor": processor})

    pinned = probe(cell, here)
    assert only(pinned, probe(other, here)).tolerance == pytest.approx(2 * math.sqrt(13 * 2 / 3))
    both = math.sqrt((2 * 13 + 12.5) / 3 * (1 / 3 + 1 / 2))
    moved = compare(pinned, probe(other, there))
    assert moved.verdicts[0].tolerance == pytest.approx(stats.t(3).isf(0.0005) * both)
    assert moved.notes == ("measured on B (avx2), pinned on A (avx2): a likely cause of small changes",)
    gone = only(pinned, probe(replace(other, value=None, reason="no weights"), there))
    assert (gone.verdict, gone.reason, gone.n, gone.n_groups) == ("missing", "not measured: no weights", 0, 0)
    assert only(pinned, probe(other, there), tolerances={"probe": 0.25}).tolerance == 0.25


def test_what_differs_between_the_runs_is_noted() -> None:
    about = {"libraries": {"numpy": "2"}}
    systems = {"codec": {"weights_sha256": "a" * 64}}
    before = si_sdr_record([1.0, 2.0], systems=systems, about=about)
    assert compare(before, before).notes == ()
    assert compare(before, si_sdr_record([1.0, 2.0], systems={"codec": {}}, about=about)).notes == ()
    data = {"si_sdr": {"title": "SI-SDR", "digits": 2, "data": "x"}}
    other = {"si_sdr": {"title": "SI-SDR", "digits": 2, "data": "y"}}
    pinned = si_sdr_record([1.0, 2.0], metrics=data)
    assert only(pinned, si_sdr_record([1.0, 2.0], metrics=data)).verdict == "same"
    assert only(pinned, si_sdr_record([1.0, 2.0], metrics=other)).reason.startswith("the audio of the suite is not")


def test_one_group_is_outside_the_correction() -> None:
    """Without an error the change decides, and the other cells are corrected as if it were not there."""
    base, shifts = np.linspace(0, 7, 8), -0.2 + 0.3 * np.tile([1.0, -1.0], 4)
    alone = only(si_sdr_record(base), si_sdr_record(base + shifts))
    reference = [np.random.default_rng(i).standard_normal((6, 3)) for i in range(8)]
    outputs = [x + 0.5 for x in reference]
    cells = {
        "si_sdr": {"codec": pairs(base)},
        "fad:vggish": {"codec": replace(corpus(reference, outputs), replicates=(), clips=())},
    }
    now = {**cells, "si_sdr": {"codec": pairs(base + shifts)}}
    first, second = compare(record(cells), record(now)).verdicts
    assert (first.p, first.detectable, first.power) == (alone.p, alone.detectable, alone.power)
    assert (second.p, second.detectable) == (1.0, second.tolerance)
    assert math.isnan(second.power)
    value = cells["fad:vggish"]["codec"].value
    assert value is not None
    assert second.tolerance == pytest.approx(0.04 * value)  # no processor is named


# ---------------------------------------------------------------- tolerances


def test_a_probes_tolerance_is_the_spread_of_its_seeds() -> None:
    seeds = [50.0, 52.0, 57.0]
    pooled = statistics.stdev(seeds)
    assert spread_tolerance(seeds, 10_000) == pytest.approx(2 * pooled * math.sqrt(2 / 3))
    # On another processor: Student's t with both spreads' degrees of freedom, one chance in 2,000.
    others = [51.0, 56.0]
    both = math.sqrt((2 * statistics.variance(seeds) + statistics.variance(others)) / 3)
    expected = stats.t(3).isf(0.0005) * both * math.sqrt(1 / 3 + 1 / 2)
    assert spread_tolerance(seeds, 10_000, others) == pytest.approx(expected)
    single = stats.t(2).isf(0.0005) * pooled * math.sqrt(1 / 3 + 1)
    assert spread_tolerance(seeds, 10_000, [51.0]) == pytest.approx(single)
    # An item of the test set, the last digit of the table, and rows that nothing is trained for.
    assert spread_tolerance([50.0, 50.0], 40) == pytest.approx(100 / 80)
    assert spread_tolerance([50.0], 40) == pytest.approx(2.5)
    assert spread_tolerance([50.0, 50.0], 10_000) == spread_tolerance([50.0], 10_000) == 0.1
    assert spread_tolerance(seeds, 0) == spread_tolerance([], 9) == 0.1
    assert spread_tolerance([50.0, 51.0], 1) == pytest.approx(50.0)


def test_what_a_metric_lets_through() -> None:
    metric = Metric(name="m", title="M", tolerance=0.2, relative_tolerance=0.05, elsewhere_tolerance=0.1)
    assert [metric.allowed_change(value) for value in (1.0, 4.0, 10.0, -10.0)] == [0.2, 0.2, 0.5, 0.5]
    assert [metric.allowed_change(value, elsewhere=True) for value in (1.0, 10.0)] == [0.2, 1.0]
    assert metric.with_tolerance(0.3).allowed_change(100.0, elsewhere=True) == 0.3
    less = replace(metric, elsewhere_tolerance=0.01)
    assert less.allowed_change(10.0, elsewhere=True) == 0.5
    up = PairMetric(name="u", title="U", worst=-3.0, best=9.0, floor=-1.0, function=lambda p, t, r: 0.0)
    assert (up.limits, up.gate_limits) == ((-3.0, 9.0), (-1.0, 9.0))
    assert [up.clamp(value) for value in (-5.0, 0.0, 12.0)] == [-1.0, 0.0, 9.0]
    down = replace(up, higher_is_better=False, worst=9.0, best=0.0, floor=None)
    assert down.limits == down.gate_limits == (0.0, 9.0)
    assert Metric(name="m", title="M").limits == (-math.inf, math.inf)
    assert replace(down, best=None).limits == (-math.inf, 9.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 0.02), ({"fad": 0.7}, 0.7), ({"fad:vggish": 0.4, "fad": 0.7}, 0.4), ({"si_sdr": 0.7}, 0.02)],
)
def test_a_users_tolerance_goes_by_the_exact_name_and_then_the_family(
    given: Mapping[str, float], expected: float
) -> None:
    found = metric_of("fad:vggish", given)
    assert (found.allowed_change(1.0), found.higher_is_better, found.digits) == (expected, False, 3)


def test_names_of_families_and_tolerances() -> None:
    assert [family_of(name) for name in ("fad:vggish", "si_sdr", "mtt/auc_roc")] == ["fad", "si_sdr", "probe"]
    assert parse_tolerance("si_sdr=0") == ("si_sdr", 0.0)
    assert parse_tolerance("a=b=0.5", None) == ("a=b", 0.5)
    assert parse_tolerance("probe=1.5") == ("probe", 1.5)
    for text in ("si_sdr=-0.1", "si_sdr=inf", "si_sdr=nan", "si_sdr=x", "si_sdr", "si_sdrr=1"):
        with pytest.raises(PolicyError, match=text.partition("=")[0]):
            parse_tolerance(text)
    assert metric_of("gone", measured=False).tolerance == 0.0
    with pytest.raises(PolicyError, match="'gone'"):
        metric_of("gone")
    probe = metric_of("mtt/auc_roc")
    assert probe.limits == (0.0, 100.0)
