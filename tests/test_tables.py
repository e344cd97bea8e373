"""Tables as files: every cell with its number or its reason, and the same bytes for the same numbers."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evaluation.cells import Cell, Column, PublishedRow, Row
from benchmarks.evaluation.measure import to_cell
from benchmarks.metrics.registry import parse_metric
from benchmarks.report.aggregates import table_from
from benchmarks.store.store import Result
from benchmarks.tables import TABLES
from benchmarks.tables.best import best_columns, verdict_lines
from benchmarks.tables.columns import PUBLISHED_COLUMNS, metric_columns
from benchmarks.tables.reference import published_rows, reference
from benchmarks.tables.table import TableResult, few_windows
from benchmarks.tables.text import json_text
from m2l.io.json_files import read_object

RESULTS = Path(__file__).resolve().parent.parent / "results"
SI_SDR = Column("si_sdr", "SI-SDR", True, 2, note="in dB")
FAD = Column("fad", "FAD_clap", False, 3)


def table(rows: list[Row], **options: object) -> TableResult:
    return TableResult("table2", "Table 2. Test", "tiny", [SI_SDR, FAD], rows, **options)  # type: ignore[arg-type]


NUMBERS = st.none() | st.floats()
CELLS = st.builds(
    Cell,
    value=NUMBERS,
    n=st.integers(0, 99),
    median=NUMBERS,
    low=NUMBERS,
    high=NUMBERS,
    failures=st.dictionaries(st.text(min_size=1, max_size=9), st.integers(1, 9), max_size=2),
    reason=st.none() | st.text(max_size=9),
)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=3))
@settings(max_examples=40, deadline=None)
def test_every_number_can_be_written(cells: list[tuple[Cell, Cell]]) -> None:
    rows = [Row(f"system{i}", {"si_sdr": a, "fad": b}) for i, (a, b) in enumerate(cells)]
    made = table(rows)
    assert made.to_json() == table(list(rows)).to_json()
    record = json.loads(made.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert len(record["rows"]) == len(rows)
    lines = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert len(lines) == 2 * len(rows)
    for line, cell in zip(lines, [c for pair in cells for c in pair], strict=True):
        if cell.value is None:
            assert line["value"] == ""
        elif not math.isnan(cell.value):
            assert float(line["value"]) == cell.value  # full precision
    made.to_markdown()
    made.to_latex()


def test_a_distance_of_few_windows_is_marked_and_the_caption_counts_them() -> None:
    fad, kad = (parse_metric(f"{name}:vggish") for name in ("fad", "kad"))
    aggregate = {"value": 1.0, "n": 2, "low": 0.5, "high": 2.0, "dim": 128}
    cells = {n: to_cell(Result({**aggregate, "n_windows": n}), fad) for n in (128, 129)}
    rows = [Row(f"{n} windows", {"fad:vggish": cell}) for n, cell in cells.items()]
    columns = metric_columns([fad], {(row.name, "fad:vggish"): row.cells["fad:vggish"] for row in rows})
    made = TableResult("table2", "T", "tiny", columns, rows).to_markdown()
    assert "| 128 windows | 1.000 [0.500, 2.000] † |" in made
    assert "| 129 windows | 1.000 [0.500, 2.000]   |" in made
    assert "† no more windows than dimensions: covariances are singular" in made
    assert "; 129 windows, 128 dimensions" in made
    assert not few_windows(to_cell(Result({**aggregate, "n_windows": 2}), kad))  # it has no covariance


def test_the_best_of_a_column_is_named_with_its_equals() -> None:
    values = {"control": 99.0, "a": 3.0, "b": 2.5, "c": 1.0, "part": 50.0}
    rows = [
        Row(
            name,
            {"si_sdr": Cell(value=value, n=4 if name == "part" else 9, details={"given": 9})}
            | {"compression_ratio": Cell(value=1.0 if name == "control" else 8.0, n=1)},
            title="A title" if name == "a" else "",
        )
        for name, value in values.items()
    ]
    pairs = [("a", "b", False), ("c", "a", True), ("b", "c", True), ("control", "a", True)]
    compared = [{"metric": "si_sdr", "a": a, "b": b, "significant": found} for a, b, found in pairs]
    made = table(rows, comparisons=compared)
    assert verdict_lines(made, 0.95) == [
        "3 of 4 pairs of rows differ (Holm over each column, 5 %); not called the best: controls (ratio 1), rows "
        "measured on fewer clips.",
        "Best SI-SDR: A title, 3.00; not distinguishable from it: b.",
    ]
    assert verdict_lines(table(rows), 0.95) == []  # nothing was compared
    assert best_columns(table(rows))["si_sdr"].names == ["a"]


def test_markdown_shows_value_interval_reason_and_failures() -> None:
    rows = [
        Row("good", {"si_sdr": Cell(value=1.234, n=9, low=1.0, high=1.5), "fad": Cell(value=0.1, n=9)}),
        Row("perfect", {"si_sdr": Cell(value=math.inf, n=9), "fad": Cell(reason="weights not found: x")}),
        Row("picky", {"si_sdr": Cell(value=-3.0, n=7, failures={"2 channels": 2}), "fad": Cell(reason="-")}),
        Row("absent", {}),
    ]
    text = table(rows, notes=["a note"]).to_markdown()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "1.23 [1.00, 1.50]" in lines["good"]
    assert "0.100" in lines["good"]
    assert "∞" in lines["perfect"]
    assert "– [1]" in lines["perfect"]
    assert "-3.00 (n = 7) [2]" in lines["picky"]
    assert lines["absent"].count("– [3]") == 2
    assert "[1] weights not found: x" in text
    assert "[2] 2 left out: 2 channels" in text
    assert "[3] not measured" in text
    assert "SI-SDR ↑" in text
    assert "FAD_clap ↓" in text
    assert "a note" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1  # lines up


def test_published_figures_stand_under_their_own_heading_with_their_source() -> None:
    published = [
        PublishedRow("Rival", {"si_sdr": 9.99}, "The paper, Table 2"),
        PublishedRow("Other", {"fad": 0.5}, "Another paper"),
    ]
    made = table([Row("ours", {"si_sdr": Cell(value=1.0, n=3)})], published=published)
    measured, _, rest = made.to_markdown().partition("Published figures")
    assert "9.99" not in measured
    assert "9.99" in rest
    first, _, second = rest.partition("Another paper:")
    assert "The paper, Table 2:" in first
    assert ("9.99" in first, "9.99" in second, "Other" in first, "0.50" in second) == (True, False, False, True)
    origins = {line["row"]: line["origin"] for line in csv.DictReader(io.StringIO(made.to_csv()))}
    assert origins == {"ours": "measured", "Rival": "published", "Other": "published"}
    assert "1.00" in made.to_latex()
    assert r"\emph{published: The paper, Table 2}" in made.to_latex()


def test_names_hold_any_character_in_every_format() -> None:
    name = "a|b\nc & 5% #1 lr~1 x^2 {k} $5 C:\\runs <i> =1+1 --"
    made = table(
        [
            Row(name, {"si_sdr": Cell(value=1.0, n=3), "fad": Cell(reason="why|\nnot")}),
            Row("plain", {"si_sdr": Cell(value=-math.inf, n=3), "fad": Cell(value=2.0, n=3)}),
        ]
    )
    latex = next(line for line in made.to_latex().splitlines() if "lr\\" in line)
    assert latex == (
        r"a\textbar{}b c \& 5\% \#1 lr\textasciitilde{}1 x\textasciicircum{}2 \{k\} \$5 C:\textbackslash{}runs "
        r"\textless{}i\textgreater{} =1+1 -{}- & 1.00 & -- \\"
    )
    assert r"plain & $-\infty$ & 2.000 \\" in made.to_latex()
    lines = made.to_markdown().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 4
    assert all(line.replace(r"\|", "").count("|") == 4 for line in lines if line.startswith("| "))
    assert "[1] why| not  " in lines
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [row["row"] for row in rows] == [name, name, "plain", "plain"]
    assert json.loads(made.to_json())["rows"][0]["name"] == name


def test_latex_is_escaped() -> None:
    made = table([Row("a_b & 50%", {"si_sdr": Cell(value=math.inf), "fad": Cell(reason="x")})])
    text = made.to_latex()
    assert r"a\_b \& 50\%" in text
    assert r"$\infty$ & --" in text
    assert r"FAD\_clap $\downarrow$" in text


def test_what_every_system_lost_is_told_once_with_its_count() -> None:
    def cell(n: int, **failures: int) -> Cell:
        return Cell(value=1.0, n=n, failures=failures)

    rows = [
        Row("a", {"si_sdr": cell(5, silent=2, short=1), "fad": cell(5, silent=2, short=1)}),
        Row("b", {"si_sdr": cell(5, silent=2, short=2), "fad": Cell(value=9.0, n=1)}),
    ]
    assert table(rows).common_failures() == {"silent": 2}
    assert table([*rows, Row("c", {"si_sdr": cell(8)})]).common_failures() == {}
    assert table([]).common_failures() == {}


def test_json_files_have_sorted_keys_and_two_spaces() -> None:
    assert json_text({"b": [1, math.inf], "a": "é"}) == '{\n  "a": "é",\n  "b": [\n    1,\n    "inf"\n  ]\n}\n'


def test_unchanged_files_are_left_alone(tmp_path: Path) -> None:
    made = table([Row("x", {"si_sdr": Cell(value=1.0)})])
    paths = made.write(tmp_path)
    assert [path.name for path in paths] == ["table2.json", "table2.csv", "table2.md"]
    for path in paths:
        os.utime(path, (1, 1))
    made.write(tmp_path)
    assert all(path.stat().st_mtime == 1 for path in paths)
    table([Row("x", {"si_sdr": Cell(value=2.0)})]).write(tmp_path)
    assert all(path.stat().st_mtime > 1 for path in paths)


def test_the_papers_table_2_is_there_as_printed() -> None:
    rows = {row.name: row.values for row in published_rows("table2", sources=("paper",))}
    assert rows["Music2Latent"] == {
        "si_sdr": -3.85, "visqol": 3.84, "fad_clap": 0.036, "fad": 1.176, "compression_ratio": 64
    }  # fmt: skip
    assert rows["DAC"]["fad"] == 0.966
    assert len(rows) == 6


def test_every_published_row_has_a_source_that_is_described() -> None:
    record = reference()
    for name in ("table1", "table2", "table3"):
        assert published_rows(name)
        for row in record[name]:
            source = record["sources"][row["source"]]
            assert source["title"]
            assert source["where"]
            assert source["data"]
            assert all(isinstance(value, (int, float)) for value in row["values"].values())


def test_builders_are_named_lazily() -> None:
    assert TABLES.names() == ["figure2", "rate", "table1", "table2", "table3"]
    assert TABLES.target("table1") == "probes.table1:build"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/table?.json")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_committed_tables_are_rendered_to_the_committed_bytes(path: Path) -> None:
    made = table_from(read_object(path, ValueError))
    for kind in ("json", "csv", "md"):
        assert made.render(kind) == path.with_suffix(f".{kind}").read_text(encoding="utf-8")
    published = len(made.published) + len(made.published_blocks())
    assert made.to_latex().count(r"\\") == 1 + len(made.rows) + published


def test_a_table_is_a_data_frame() -> None:
    frame = table([Row("a", {"si_sdr": Cell(value=1.5, n=3), "fad": Cell(reason="no weights")})]).frame()
    assert frame.loc[0, ["row", "column", "value", "n"]].tolist() == ["a", "si_sdr", 1.5, 3]
    assert frame.loc[1, "reason"] == "no weights"
    assert frame.attrs["title"] == "Table 2. Test"


def test_figures_of_two_protocols_share_no_block() -> None:
    rows = published_rows("table2")
    table = TableResult("table2", "", "", PUBLISHED_COLUMNS["table2"], [], rows)
    blocks = table.published_blocks()
    assert len(blocks) == len(reference()["sources"]) == 4
    assert sum(len(own) for _, _, own in blocks) == len(rows)
    assert all("protocol: " in source and "data: " in source for source, _, _ in blocks)
    by_title = {source.split(" ")[0]: [column.key for column in columns] for source, columns, _ in blocks}
    assert by_title["Card"] == ["si_sdr", "stft_distance", "mel_distance", "ccpc"]
    assert "ccpc" not in by_title["Music2Latent"]
    known = {column.key for column in PUBLISHED_COLUMNS["table2"]}
    assert all(set(row.values) <= known for row in rows)
    text = table.to_markdown()
    assert text.count("| published elsewhere") == 4
