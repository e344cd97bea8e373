"""README and docs: commands that parse, links that lead somewhere, tables equal to the results, examples that run."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
import tomllib
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

import m2l
from benchmarks.cli.main import COMMANDS, make_app
from benchmarks.cli.main import main as bench
from benchmarks.suite import SECTIONS, Suite, load_suite
from m2l.cli.main import app as m2l_app
from probes.table1 import KEYS as TABLE1_KEYS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results" / "README.md"])


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(program: str) -> list[list[str]]:
    """The command lines of all pages that have no placeholder in place of a value."""
    found = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # it speaks of forms of commands
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = re.findall(rf"^ {{4}}(?:M2L_\w+=\S+ )*{program} (.*)$", text, re.M)
        lines += re.findall(rf"`(?:M2L_\w+=\S+ )*{program} ([^`\n]*)`", text)
        for line in lines:
            for part in line.split("&&"):
                words = shlex.split(part.split(" > ")[0].removeprefix(f" {program} "), comments=True)
                if "…" not in line and "I/N" not in line and len(words) > 1 and words[-1] != "NAME":
                    found.append(words)
    return found


def test_the_readme_fits_on_a_few_screens() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert "<picture>" in "\n".join(lines[:15])


def test_commands_of_the_pages_parse() -> None:
    parsed = 0
    for words in commands("m2l-bench"):
        if words[0] in COMMANDS:
            make_app(summaries=False).parse_args(words)
            parsed += 1
    assert parsed > 40
    lines = [words for words in commands("m2l") if words[0] in list(m2l_app)]
    for words in lines:
        m2l_app.parse_args(words)
    assert len(lines) > 10


def test_links_between_files_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:srcset|src)=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
            name = "".join(target)
            if "://" not in name:
                path, _, anchor = name.partition("#")
                target = page.parent / path if path else page
                assert target.exists(), f"{page}: {name}"
                page_text = target.read_text(encoding="utf-8") if target.suffix == ".md" else ""
                headings = re.findall(r"^#+ (.*)$", page_text, re.M)
                anchors = [re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings]
                assert not anchor or target.suffix != ".md" or anchor in anchors, f"{page}: {name}"


def test_included_files_exist() -> None:
    names = [name for page in PAGES for name in re.findall(r'--8<-- "([^"]+)"', page.read_text(encoding="utf-8"))]
    assert len(names) >= 5
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_table_2_of_the_readme_is_that_of_the_results() -> None:
    readme = script("readme")
    text = README.read_text(encoding="utf-8")
    table = (ROOT / "results" / "open" / "table2.md").read_text(encoding="utf-8")
    assert readme.updated(text, table) == text
    assert readme.updated(text, table.replace("mp3-64k", "mp3-65k")) != text


def test_python_of_the_readme_runs(tmp_path, monkeypatch) -> None:
    soundfile.write(tmp_path / "song.wav", 0.1 * np.random.default_rng(0).standard_normal((2000, 2)), 44_100)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["model"], m2l.Music2Latent)
    assert np.shape(names["latents"])[:2] == (2, 64)
    assert len(np.shape(names["audio"])) == 2


def python_blocks(page: str) -> list[str]:
    """The code of a page that is not a file of its own."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"^``` ?{? ?\.?python[^\n]*\n(.*?)^```", text, re.M | re.DOTALL)
    return [code for code in found if "--8<--" not in code]


def test_python_of_the_quickstart_runs(tmp_path, monkeypatch) -> None:
    import torch

    from m2l.representation import waveform_to_representation

    soundfile.write(tmp_path / "song.wav", 0.1 * np.random.default_rng(0).standard_normal((8000, 2)), 44_100)
    monkeypatch.chdir(tmp_path)
    arrays, gradients, published = python_blocks("quickstart.md")
    names: dict[str, Any] = {"audio": np.zeros((2, 4800), np.float32)}
    exec(arrays, names)
    assert np.shape(names["audio"]) == (2, 4800)
    model = names["model"]
    names["audio"] = torch.zeros(1, 34_304, requires_grad=True)
    names["noise"] = torch.randn_like(waveform_to_representation(names["audio"], model.config))
    exec(gradients, names)
    assert names["audio"].requires_grad
    home = Path(m2l.__file__).parent / "checkpoints" / "mini"
    exec(published.replace('"music2latent.pt"', repr(str(home))), names)
    assert np.shape(names["audio"])[0] == 2


def test_python_of_the_guide_on_scores_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    noise = 0.1 * np.random.default_rng(0).standard_normal(44_100)
    for folder, audio in (("originals", noise), ("decoded", 0.9 * noise)):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "song.wav", audio, 44_100)
    (code,) = python_blocks("guides/score.md")
    names: dict[str, Any] = {}
    exec(code, names)
    assert set(names["frame"]["metric"]) == {"si_sdr", "mel"}


@pytest.mark.slow
def test_the_representation_of_the_guide_is_probed(tmp_path, monkeypatch) -> None:
    import probes

    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probes, "evaluate", partial(probes.evaluate, limit=20, seeds=1, quiet=True), raising=False)
    (code,) = python_blocks("guides/notebook.md")
    names: dict[str, Any] = {}
    exec(code, names)
    assert "Bands" in str(list(names["found"].table.index))


@pytest.mark.slow
def test_output_of_the_notebook_is_what_the_guide_shows(capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    exec((ROOT / "examples" / "notebook.py").read_text(encoding="utf-8"), {"__name__": "__main__"})
    shown = (ROOT / "docs" / "guides" / "notebook.txt").read_text(encoding="utf-8").split()
    printed = capsys.readouterr().out.split()
    assert len(printed) == len(shown)
    for ours, theirs in zip(printed, shown, strict=True):
        try:
            assert float(ours) == pytest.approx(float(theirs), rel=1e-3, nan_ok=True)
        except ValueError:
            assert ours == theirs


# --- the reference ----------------------------------------------------------------------------------------------


def test_every_command_is_in_the_reference() -> None:
    hooks = script("hooks")
    page = hooks.on_page_markdown((ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8"))
    assert "<!-- commands" not in page
    shown = re.findall(r"^### (m2l(?:-bench)?) (\S+)", page, re.M)
    assert {name for program, name in shown if program == "m2l-bench"} == set(COMMANDS)
    assert ("m2l", "encode") in shown
    assert page.count("usage: ") == len(shown)
    assert "--checkpoint" in page


def test_every_page_is_in_the_navigation() -> None:
    # Only the names: the file has tags of mkdocs in other places.
    names = re.findall(r"- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    docs = ROOT / "docs"
    assert sorted(names) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def test_every_key_of_a_suite_is_explained_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "suite.md").read_text(encoding="utf-8")
    sections = {"[table1]": None, "Top level": Suite} | {f"[{name}]": kind for name, kind in SECTIONS.items()}
    for heading, kind in sections.items():
        text = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.M | re.DOTALL)
        assert text is not None, heading
        shown = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", text[1], re.M))
        if kind is None:
            assert sorted(shown) == sorted(TABLE1_KEYS)
            continue
        fields = {item.name: item for item in dataclasses.fields(kind) if item.name not in ("table1", *SECTIONS)}
        assert sorted(shown) == sorted(fields), heading
        for name, item in fields.items():
            default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
            if shown[name].startswith("`"):
                assert tomllib.loads(f"value = {shown[name].strip('`')}")["value"] == default, f"{heading} {name}"
            else:
                assert default is dataclasses.MISSING, f"{heading} {name}"


def fields_of(record: dict[str, Any]) -> set[str]:
    """Names of fields of a result file, those of its rows, cells, pairs and points included."""
    found = set(record) | set(record.get("provenance", {})) | set(record.get("about", {}))
    for row in record.get("rows", []):
        found |= {*row, *row["metadata"]}
        for cell in row["cells"].values():
            found |= {*cell, *cell.get("details", {})}
    for name in ("columns", "comparisons", "published"):
        for one in record.get(name, []):
            found |= set(one)
    for curves in record.get("curves", {}).values():
        found |= {field for points in curves.values() for point in points for field in point}
    if "stages" in record:  # cost.json
        found |= {field for speeds in record["systems"].values() for field in speeds}
    for point in record.get("curve", []):
        found |= set(point)
    return found


def test_every_result_file_and_field_is_explained() -> None:
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    assert "`table2.replicates.json`" in text
    for path in sorted(path for suite in ("open", "synthetic") for path in (ROOT / "results" / suite).iterdir()):
        pattern = re.sub(r"^table\d", "table*", path.name) if path.suffix in (".md", ".csv") else path.name
        assert path.name in text or pattern in text, path
        if path.suffix == ".json" and ".replicates" not in path.name:
            for field in fields_of(json.loads(path.read_text(encoding="utf-8"))):
                assert re.search(rf"[`.]{field}[`\[]", text), f"{path}: {field}"


def test_messages_of_troubleshooting_are_those_of_the_code() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for name in ("m2l", "benchmarks", "probes")
        for path in (ROOT / name).rglob("*.py")
    )
    sources = re.sub(r"\"\s*\n\s*f?\"", "", sources)  # strings over several lines
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = [one for row in re.findall(r"^\| (.*?) \|", text, re.M) for one in re.findall(r"`([^`]+)`", row)]
    parts = [
        part.strip(" ;?") for one in messages for part in re.split(r"'?\b(?:NAME|X|Y)\b'?|…|'[^']*'|m2l-bench: ", one)
    ]
    checked = [part for part in parts if len(part) > 8]
    assert len(checked) > 10
    assert [part for part in checked if part not in sources] == []


# --- examples ---------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The root of the repository as current folder, and a store and cache of its own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_example_codec_and_metric_compare(home, capsys) -> None:
    metrics = "si_sdr,examples/peak_error.py:peak_error"
    command = ["compare", "examples/loudest.py:Loudest", "--suite", "synthetic", "--against", "identity"]
    assert bench([*command, "--metrics", metrics, "--limit", "2", "--executor", "serial", "--quiet"]) == 0
    assert "**loudest:Loudest**" in capsys.readouterr().out


@pytest.mark.slow
def test_the_comparison_of_the_readme_is_what_its_command_prints(home, capsys) -> None:
    found = re.search(r"^    m2l-bench (compare .*)\n\n((?:\|.*\n|\n)+)", README.read_text(encoding="utf-8"), re.M)
    assert found is not None
    assert bench([*shlex.split(found[1]), "--executor", "serial", "--quiet"]) == 0
    shown, printed = (
        [{cell.strip() for cell in line.split("|")} for line in re.findall(r"^\|(?! -).*$", text, re.M)]
        for text in (found[2], capsys.readouterr().out)
    )
    assert len(shown) == 7  # headings and rows of two tables
    assert [row for row in shown if not any(row <= other for other in printed)] == []


def test_the_example_suite_for_ci_is_measured_pinned_and_judged(home, tmp_path) -> None:
    record = tomllib.loads((ROOT / "examples" / "ci" / "suite.toml").read_text(encoding="utf-8"))
    suite = tmp_path / "suite.toml"
    lines = f'name = "{record["name"]}"\n[data]\ndataset = "{record["data"]["dataset"]}"\nlimit = 2\n'
    suite.write_text(f'{lines}[table2]\nsystems = {record["table2"]["systems"]}\nmetrics = ["si_sdr"]\n')
    place = ["--suite", str(suite), "--results", str(tmp_path / "results")]
    assert bench(["tables", *place, "--executor", "serial", "--quiet"]) == 0
    assert bench(["gate", *place, "--update"]) == 0
    assert bench(["gate", *place]) == 0


def test_example_suites_are_valid(home) -> None:
    assert load_suite("examples/suite.toml").tables == ["table2"]
    assert load_suite("examples/ci/suite.toml").name == "ci"


def test_the_example_workflow_names_inputs_that_the_action_has() -> None:
    workflow = yaml.safe_load((ROOT / "examples" / "ci" / "workflow.yml").read_text(encoding="utf-8"))
    action = yaml.safe_load((ROOT / ".github" / "actions" / "gate" / "action.yml").read_text(encoding="utf-8"))
    (step,) = [one for one in workflow["jobs"]["gate"]["steps"] if "actions/gate" in one["uses"]]
    assert set(step["with"]) <= set(action["inputs"])
    assert (ROOT / step["with"]["suite"]).is_file()


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] == m2l.__version__
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(one for one in headings if one != "Unreleased") == f"{m2l.__version__} ({citation['date-released']})"


def test_badges_say_what_the_project_file_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    badges = re.findall(r"^\[!\[(\w+): (.*?)\]", README.read_text(encoding="utf-8"), re.M)
    versions = [one.rpartition(" ")[2] for one in project["classifiers"] if one.startswith("Programming Language")]
    assert dict(badges)["license"] == project["license"]
    assert dict(badges)["Python"] == ", ".join(one for one in versions if "." in one)


def test_issue_templates_are_forms() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
