"""Parts of the report: cells in words, marks, choice of clips, drawings, pictures and audio."""

from __future__ import annotations

import io
import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evaluation.cells import Cell, Column, PublishedRow, Row
from benchmarks.report import svg
from benchmarks.report.aggregates import table_from
from benchmarks.report.charts import compression_charts, figure2_charts, speed_charts, strip_chart
from benchmarks.report.marks import Answer, Comparisons, answers, marks
from benchmarks.report.media import FORMATS, encode, rms_db
from benchmarks.report.pictures import BANDS, WIDTH, indexed_png, mel_spectrogram_db, palette, picture
from benchmarks.report.selection import choose, hardest_first, rankdata
from benchmarks.report.tables import UNKNOWN, slug, table_view
from benchmarks.report.wording import clock, count, interval, ordinal, show
from benchmarks.tables.table import TableResult

SI_SDR = Column("si_sdr", "SI-SDR", True, 2, note="in dB")
FAD = Column("fad:x", "FAD_clap", False, 3)
RATIO = Column("compression_ratio", "compression ratio", None, 1)
BITRATE = Column("bitrate", "rate", None, 1, unit="kbit/s")

NUMBERS = st.none() | st.floats(allow_nan=False)
CELLS = st.builds(
    Cell,
    value=NUMBERS,
    n=st.integers(0, 99),
    median=NUMBERS,
    low=NUMBERS,
    high=NUMBERS,
    failures=st.dictionaries(st.text(min_size=1, max_size=9), st.integers(1, 9), max_size=2),
    reason=st.none() | st.just("-") | st.text(min_size=1, max_size=9),
)


def table(rows: list[Row], columns: list[Column] | None = None, **options: object) -> TableResult:
    columns = columns or [SI_SDR, FAD]
    return TableResult("table2", "Table 2. Test", "tiny", columns, rows, **options)  # type: ignore[arg-type]


def pair(metric: str, a: str, b: str, low: float, high: float) -> dict[str, object]:
    return {
        "metric": metric,
        "a": a,
        "b": b,
        "n": 9,
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "significant": low > 0 or high < 0,
    }


@given(st.lists(st.tuples(CELLS, CELLS), max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_table_comes_back_from_its_json_and_every_cell_is_accounted_for(cells: list[tuple[Cell, Cell]]) -> None:
    rows = [Row(f"system{i}", {"si_sdr": a, "fad:x": b}) for i, (a, b) in enumerate(cells)]
    made = table(rows, published=[PublishedRow("DAC", {"si_sdr": 9.48}, "a paper")])
    again = table_from(json.loads(made.to_json()))
    assert again.to_json() == made.to_json()
    view = table_view(again)
    texts = dict(view.footnotes)
    for row, found in zip(rows, view.rows, strict=True):
        for column, shown in zip(made.columns, found.cells, strict=True):
            cell = row.cells[column.key]
            assert all(number in texts for number in shown.notes)
            if cell.value is not None:
                assert shown.kind == "value"
                assert shown.sort == cell.value
            elif cell.reason == "-":
                assert (shown.kind, shown.sort) == ("none", None)
            else:
                assert (shown.kind, shown.text, shown.sort) == ("missing", "not measured", None)
                assert texts[shown.notes[0]] == (cell.reason or "not measured")
            for why, n in cell.failures.items():
                said = [*texts.values(), *view.everywhere]
                assert any(why in text and str(n) in text for text in said)


def test_a_cost_that_nobody_asked_for_is_not_called_inapplicable() -> None:
    absent = Row("x", {"si_sdr": Cell(reason="no weights"), "bitrate": Cell(reason="-")}, metadata={"available": False})
    codec = Row("y", {"si_sdr": Cell(value=1.0, n=4), "bitrate": Cell(reason="-")}, metadata={"available": True})
    view = table_view(table([absent, codec], [SI_SDR, BITRATE]))
    assert view.rows[0].cells[1].text == UNKNOWN
    assert view.rows[1].cells[1].text == "does not apply"
    assert view.unknown


def test_n_is_in_the_heading_and_in_cells_that_differ() -> None:
    rows = [Row(name, {"si_sdr": Cell(value=1.0, n=n)}) for name, n in (("a", 42), ("b", 42), ("c", 40))]
    view = table_view(table(rows, [SI_SDR]))
    assert view.columns[0].n == "42 clips"
    assert [row.cells[0].n for row in view.rows] == ["", "", "n = 40"]


def test_best_and_what_cannot_be_told_from_it() -> None:
    values = {"identity": (math.inf, 0.0), "a": (9.0, 0.3), "b": (8.9, 0.1), "c": (2.0, 0.2), "d": (9.5, None)}
    rows = [
        Row(
            name,
            {"si_sdr": Cell(value=x, n=9), "fad:x": Cell(value=y, n=9)}
            | ({"compression_ratio": Cell(value=1.0, n=1)} if name == "identity" else {}),
        )
        for name, (x, y) in values.items()
    ]
    comparisons = [
        pair("si_sdr", "a", "d", -1.2, 0.2),
        pair("si_sdr", "d", "b", 0.1, 1.1),
        pair("fad:x", "b", "c", -0.2, 0.1),
        {"metric": "fad:x", "a": "a", "b": "b", "n": 9, "reason": "measured on different clips"},
    ]
    made = table(rows, comparisons=comparisons)
    assert marks(made) == {
        ("d", "si_sdr"): "best",
        ("a", "si_sdr"): "tied",
        ("b", "fad:x"): "best",  # lower is better, and the control's 0 does not compete
        ("c", "fad:x"): "tied",
    }
    against = Comparisons(made).against_all(made.columns, made.rows)
    assert against["d"]["b"]["si_sdr"] == -1  # b is worse than d
    assert against["b"]["d"]["si_sdr"] == 1
    assert against["c"]["b"]["fad:x"] == 0
    assert "fad:x" not in against.get("a", {}).get("b", {})


def test_comparisons_of_table_1_are_found_by_task_and_scaled_to_percent() -> None:
    record = {**pair("f1_micro", "mel", "chroma", 0.1, 0.3), "task": "open-pitch"}
    column = Column("open-pitch/f1_micro", "pitch", True, 1)
    rows = [Row(name, {column.key: Cell(value=50.0, n=9)}) for name in ("mel", "chroma")]
    made = TableResult("table1", "", "", [column], rows, comparisons=[record])
    found = Comparisons(made).get(column.key, "chroma", "mel")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((-30.0, -10.0))


def test_numbers_in_words() -> None:
    assert show(-3.846, 2) == "−3.85"
    assert show(1167.4319, 3) == "1167.4"
    assert show(123456.7, 2) == "123457"
    assert show(-0.0001, 2) == "0.00"
    assert show(-math.inf, 1) == "−∞"
    assert interval(-1.0, 2.5, 1) == "[−1.0, 2.5]"
    assert interval(math.inf, math.inf, 1) == interval(None, 2.0, 1) == ""
    assert (count(1, "clip"), count(5355, "clip")) == ("1 clip", "5\u202f355 clips")
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th",
    ]  # fmt: skip
    assert (clock(7.9), clock(205)) == ("0:07", "3:25")
    assert slug("music2latent:../x y@2") == "music2latent-..-x-y-2"


SCORES = st.dictionaries(
    st.sampled_from(["si_sdr", "visqol"]),
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.dictionaries(st.sampled_from([f"clip{i}" for i in range(9)]), st.floats(allow_nan=False)),
    ),
)


@given(SCORES, st.integers(1, 12), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_as_many_different_clips_are_chosen_as_there_can_be(
    scores: dict[str, dict[str, dict[str, float]]], wanted: int, n: int
) -> None:
    clips = [f"clip{i}" for i in range(n)]
    found = choose(scores, {}, ["a", "b", "c"], clips, wanted)
    names = [choice.clip for choice in found]
    assert len(names) == len(set(names)) == min(wanted, n)
    assert set(names) <= set(clips)


def test_hardest_clips_are_those_most_systems_find_hard() -> None:
    scores = {
        "a": {"x": -90.0, "y": 5.0, "z": 6.0},
        "b": {"x": 7.0, "y": 1.0, "z": 9.0},
        "c": {"x": 3.0, "y": 1.0, "z": 4.0},
    }
    assert hardest_first(scores) == ["y", "x", "z"]  # a's -90 counts as one rank, not as 90
    (worst, best, *_) = choose({"si_sdr": scores}, {"si_sdr": "SI-SDR"}, list(scores), ["z", "y", "x"], 3)
    assert (worst.clip, best.clip) == ("y", "z")
    assert worst.reasons[0] == "lowest SI-SDR of 3 clips, by mean rank of 3 systems"
    with pytest.raises(ValueError, match="at least 1, got 0"):
        choose({}, {}, [], ["x"], 0)


@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 1)), min_size=1, max_size=30))
@settings(deadline=None)  # the first call imports scipy.stats
def test_ranks_share_ties_as_scipy_does(values: list[float]) -> None:
    from scipy.stats import rankdata as reference

    assert rankdata(values).tolist() == reference(values).tolist()


def _points(drawing: str, css: str) -> list[tuple[float, float]]:
    root = ET.fromstring(drawing)  # well-formed, or this raises
    found = [node for node in root.iter() if css in node.get("class", "").split()]
    return [(float(node.get("cx", "nan")), float(node.get("cy", "nan"))) for node in found]


def test_up_is_better_in_every_plot_and_controls_stay_out() -> None:
    def cells(value: float, ratio: float | None = None, **interval: float) -> dict[str, Cell]:
        cost = Cell(reason="-") if ratio is None else Cell(value=ratio)
        return {"fad:x": Cell(value=value, n=9, **interval), "compression_ratio": cost}

    rows = [
        Row("identity", cells(0.0, ratio=1.0), metadata={"source": "input"}),
        Row("good", cells(0.4, low=0.0, high=0.9, ratio=64.0)),
        Row("bad <b>", cells(1200.0, low=900.0, high=1300.0, ratio=32.0)),
        Row("gone", {"fad:x": Cell(reason="no weights")}),
        Row("odd", cells(3.0)),
    ]
    (chart,) = compression_charts(table(rows, [FAD, RATIO, BITRATE]))
    (good, bad) = _points(chart.svg, "point")
    assert good[1] < bad[1]  # y grows downwards
    assert good[0] > bad[0]
    assert "bad &lt;b&gt;" in chart.svg
    assert [row[0] for row in chart.rows] == ["good", "bad <b>"]
    assert chart.left_out == ["identity: a control", "gone: not measured", "odd: its compression is not known"]


def test_speed_needs_measured_speeds() -> None:
    rows = [Row(name, {"si_sdr": Cell(value=value, n=9)}) for name, value in (("a", 1.0), ("b", 2.0))]
    made = table(rows, [SI_SDR])
    assert speed_charts(made, None) == []
    (chart,) = speed_charts(made, {"systems": {"a": {"real_time_factor": 4.0}}})
    assert [row[:2] for row in chart.rows] == [["a", "4"]]
    assert chart.left_out == ["b: its speed was not measured"]


def test_figure_2_empty_partly_measured_and_full() -> None:
    def point(steps: int, value: float | None) -> dict[str, object]:
        known = value is not None
        return {
            "n_steps": steps,
            "value": value,
            "low": value - 1 if known else None,
            "high": "inf" if known and steps == 2 else value,
            "n": 4 if known else 0,
            "reason": None if known else "no weights",
        }

    def record(values: dict[str, list[float | None]]) -> dict[str, object]:
        columns = [{"key": "si_sdr", "title": "SI-SDR", "higher_is_better": True, "digits": 2}]
        curves = {name: {"si_sdr": [point(i + 1, v) for i, v in enumerate(found)]} for name, found in values.items()}
        return {"columns": columns, "curves": curves, "steps": [1, 2, 3]}

    assert figure2_charts(None) == []
    (empty,) = figure2_charts(record({"mini": [None, None, None]}))
    assert not empty.svg
    assert empty.left_out == ["mini: no weights"]
    (half,) = figure2_charts(record({"mini": [1.0, 2.0, 3.0], "random": [None, -2.0, None]}))
    assert len(_points(half.svg, "dot")) == 4
    heights = [y for _, y in _points(half.svg, "dot")][:3]
    assert heights == sorted(heights, reverse=True)
    assert half.rows[0] == ["mini", "1", "1.00", "[0.00, 1.00]", "4 clips"]


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_scales_hold_their_values_and_have_ticks_inside(values: list[float]) -> None:
    scale = svg.scale_for(values, 300, 20)
    assert all(20 - 1e-6 <= scale(value) <= 300 + 1e-6 for value in values)
    assert all(
        scale.low <= tick <= scale.high
        or math.isclose(tick, scale.low, abs_tol=1e-6)
        or math.isclose(tick, scale.high, abs_tol=1e-6)
        for tick in scale.ticks()
    )
    strip = strip_chart({str(i): value for i, value in enumerate(values)}, SI_SDR, "x")
    assert (strip == "") == (len(values) < 2)
    if strip:
        ET.fromstring(strip)


@given(st.lists(st.tuples(st.floats(50, 350), st.floats(40, 260)), min_size=1, max_size=7, unique=True))
@settings(max_examples=40, deadline=None)
def test_labels_stay_near_their_points(points: list[tuple[float, float]]) -> None:
    placed = svg.place_labels([(x, y, "system") for x, y in points], (46, 30, 388, 266))
    for (x, y), (label_x, label_y, anchor) in zip(points, placed, strict=True):
        assert abs(label_x - x) <= 9.001
        assert abs(label_y - y) <= 28.001
        assert anchor in ("start", "end", "middle")


def test_labels_of_neighbors_do_not_overlap() -> None:
    points = [(200.0, 100.0, "opus-96k"), (206.0, 104.0, "vorbis-64k"), (203.0, 97.0, "mp3-64k")]
    boxes = []
    placed = svg.place_labels(points, (46, 30, 388, 266))
    for (x, y, anchor), (_, _, text) in zip(placed, points, strict=True):
        width = 6.4 * len(text)
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((left, y - 9, left + width, y + 2))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_a_label_stays_clear_of_boxes() -> None:
    """A whisker right of the point sends its label to the left."""
    point = (200.0, 100.0, "opus-96k")
    (_, _, free), (_, _, moved) = (
        svg.place_labels([point], (46, 30, 388, 266), boxes)[0] for boxes in ([], [(210.0, 40.0, 214.0, 160.0)])
    )
    assert (free, moved) == ("start", "end")


def test_logarithmic_axes_refuse_zero() -> None:
    with pytest.raises(ValueError, match="0 cannot be on a logarithmic axis"):
        svg.scale_for([0, 1], 0, 1, log=True)
    assert svg.scale_for([1, 1000], 0, 100, log=True).ticks() == [1, 10, 100, 1000]


def test_pictures_are_what_they_say() -> None:
    from PIL import Image

    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.open(io.BytesIO(indexed_png(pixels, palette())))
    assert image.size == (4, 3)
    assert np.array_equal(np.asarray(image), pixels)
    assert np.array_equal(np.asarray(image.convert("RGB")), palette()[pixels])
    with pytest.raises(ValueError, match="index 11 for a palette of 2"):
        indexed_png(pixels, palette()[:2])
    lightness = palette() @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0).all()  # louder is brighter, in gray too


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_a_tone_is_bright_where_it_sounds(rate: int) -> None:
    time = np.arange(rate) / rate
    tone = np.where(time < 0.5, np.sin(2 * np.pi * 1000 * time), 0.0).astype(np.float32)
    levels = mel_spectrogram_db(tone[None], rate)
    assert levels.shape == (BANDS, WIDTH)
    assert np.isfinite(levels).all()
    band = int(np.argmax(levels[:, WIDTH // 4]))
    mel = 2595 * np.log10(1 + np.array([40.0, 1000.0, 16000.0]) / 700)
    assert abs(band - (mel[1] - mel[0]) / (mel[2] - mel[0]) * (BANDS + 1)) <= 2
    assert levels[band, WIDTH // 4] - levels[band, 3 * WIDTH // 4] > 60
    from PIL import Image

    shown = np.asarray(Image.open(io.BytesIO(picture(levels, float(levels.max())))))
    assert shown.shape == (BANDS, WIDTH)
    assert shown[BANDS - 1 - band, WIDTH // 4] > 55  # low bands at the bottom
    assert shown[:, 3 * WIDTH // 4].max() == 0


@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (96000, 1), (12345, 2)])
def test_audio_survives_its_compression(format: str, rate: int, channels: int) -> None:
    time = np.arange(rate) / rate
    audio = np.stack([0.5 * np.sin(2 * np.pi * (400 + 200 * c) * time) for c in range(channels)]).astype(np.float32)
    decoded, found = sf.read(io.BytesIO(encode(audio, rate, format)), always_2d=True)
    assert decoded.shape[1] == channels
    assert abs(len(decoded) / found - 1.0) < 0.05
    expected = np.sin(2 * np.pi * 400 * np.arange(len(decoded)) / found) * 0.5
    middle = slice(len(decoded) // 4, len(decoded) // 2)
    assert np.abs(decoded[middle, 0] - expected[middle]).max() < (0.05 if format == "mp3-small" else 0.02)
    with pytest.raises(ValueError, match="'wma': it must be one of mp3, mp3-small, ogg, flac"):
        encode(audio, rate, "wma")


def test_levels() -> None:
    assert rms_db(np.full((1, 100), 0.1, dtype=np.float32)) == pytest.approx(-20.0)
    assert rms_db(np.zeros((1, 100), dtype=np.float32)) == -120.0


def test_an_answer_names_the_best_and_what_is_not_significantly_worse() -> None:
    rows = [
        Row(name, {"si_sdr": Cell(value=value, n=9), "fad:x": Cell(value=-value, n=9)})
        for name, value in (("a", 3.0), ("b", 2.5), ("c", -1.0))
    ]
    pairs = [
        pair("si_sdr", "a", "b", -0.5, 1.5),
        pair("si_sdr", "a", "c", 3.0, 5.0),
        pair("si_sdr", "b", "c", 3.0, 4.0),
    ]
    made = table(rows, comparisons=pairs)
    assert answers(made) == [
        Answer("si_sdr", ["a"], "3.00", ["b"], tested=True), Answer("fad:x", ["a"], "−3.000", [], tested=False)
    ]  # fmt: skip
    assert [column.title for column, _ in table_view(made).answers] == ["SI-SDR", "FAD"]
    assert table_view(table(rows[:1])).answers == []
