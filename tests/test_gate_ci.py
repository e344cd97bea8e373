"""The action, the workflow and .ci/run: their scripts are run here, with the network and GitHub played by stubs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from harness_helpers import write_clips

ROOT = Path(__file__).resolve().parent.parent
ACTION = ROOT / ".github" / "actions" / "gate" / "action.yml"
GOLDEN = ROOT / "tests" / "golden" / "results" / "synthetic"
WORKFLOW = ROOT / ".github" / "workflows" / "metrics.yml"

pytestmark = pytest.mark.skipif(
    not ACTION.is_file() or shutil.which("bash") is None, reason="needs a checkout and bash"
)


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def steps_of(path: Path) -> list[dict[str, Any]]:
    record = load(path)
    if "runs" in record:
        return list(record["runs"]["steps"])
    return [step for job in record["jobs"].values() for step in job["steps"]]


def script(path: Path, name: str) -> str:
    (found,) = [step["run"] for step in steps_of(path) if step.get("name") == name]
    return str(found)


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a runner: our command line on PATH, pip that does nothing, gh that writes down."""
    tools = tmp_path / "tools"
    tools.mkdir()
    stubs = {
        "m2l-bench": f'exec "{sys.executable}" -m benchmarks.cli "$@"\n',
        "python": 'echo "python $*" >>"$LOG"\n',
        "gh": 'echo "gh $*" >>"$LOG"\ncase "$*" in *--paginate*) cat "$COMMENTS" ;; esac\n',
    }
    for name, body in stubs.items():
        path = tools / name
        path.write_text("#!/usr/bin/env bash\n" + body)
        path.chmod(0o755)
    (tmp_path / "comments").write_text("")
    (tmp_path / "output").write_text("")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")},
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RUNNER_TEMP": str(tmp_path),
        "M2L_CACHE": str(tmp_path / "cache"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_REPOSITORY": "someone/codec",
        "LOG": str(tmp_path / "log"),
        "COMMENTS": str(tmp_path / "comments"),
    }


def bash(text: str, environment: dict[str, str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does: bash -e with pipefail."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def measured_results(folder: Path, change: float) -> None:
    """Results with the SI-SDR of every clip of one codec changed, as if measured."""
    shutil.copytree(GOLDEN, folder)
    table = folder / "table2.json"
    record = json.loads(table.read_text())
    scores = record["scores"]["si_sdr"]["opus-16k"]
    record["scores"]["si_sdr"]["opus-16k"] = {clip: value + change for clip, value in scores.items()}
    table.write_text(json.dumps(record))


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=["action", "workflow"])
def test_scripts_parse_and_take_no_text_from_expressions(path: Path) -> None:
    for step in steps_of(path):
        if "run" in step:
            done = subprocess.run(["bash", "-n"], input=step["run"], text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "${{" not in step["run"]  # a branch's name must not become code


def test_every_input_that_is_used_is_declared_and_the_other_way_round() -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", ACTION.read_text()))
    assert used == set(load(ACTION)["inputs"])
    for step in steps_of(WORKFLOW):
        if step.get("uses") == "./.github/actions/gate":
            assert set(step["with"]) <= set(load(ACTION)["inputs"])
            break
    else:
        pytest.fail("the workflow does not use the action")


CODEC = """
class Codec:
    '''Adds noise; the tests edit how much.'''

    spec = {"sample_rate": 16000, "channels": "mono"}

    def encode(self, audio):
        return audio

    def decode(self, latents, length):
        rng = __import__("numpy").random.default_rng(0)
        return (latents + NOISE * rng.standard_normal(latents.shape)).astype("float32")
"""


def action(runner: dict[str, str], repository: Path, inputs: dict[str, str]) -> dict[str, Any]:
    """Run the action's own steps as GitHub does, outputs handed on; the last step's exit code and all outputs."""
    record = load(ACTION)
    values = {name: str(item.get("default", "")) for name, item in record["inputs"].items()} | inputs
    outputs: dict[str, dict[str, str]] = {}
    status = 0

    def fill(text: str) -> str:
        text = re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: values[found[1]], text)
        pattern = r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}"
        text = re.sub(pattern, lambda found: outputs[found[1]][found[2]], text)
        return text.replace("${{ github.event.pull_request.number }}", "5")

    for step in record["runs"]["steps"]:
        if step.get("name") not in ("measure", "gate", "comment", "verdict"):
            continue
        file = repository / f"output-{step['name']}"
        file.write_text("")
        environment = {**runner, **{name: fill(text) for name, text in step["env"].items()}}
        done = bash(step["run"], environment | {"GITHUB_OUTPUT": str(file)}, repository)
        lines = [line.split("=", 1) for line in file.read_text().splitlines()]
        outputs[step.get("id", step["name"])] = dict(lines)
        status = done.returncode
        if step["name"] != "verdict":
            assert status == 0, done.stderr  # no step before the verdict ends the job
    (comment,) = [line for line in Path(runner["LOG"]).read_text().splitlines() if "issues/5/comments -F" in line]
    return {"exit": status, "comment": comment, **outputs["gate"]}


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's repository: a codec, a suite, clips, committed results and the pinned baseline."""
    place = tmp_path_factory.mktemp("pinned")
    folder = place / "theirs"
    write_clips(folder / "clips", count=3)
    (folder / "my_codec.py").write_text(CODEC.replace("NOISE", "0.01"))
    (folder / "suite.toml").write_text(
        'name = "theirs"\n[data]\ndataset = "folder"\noptions = { path = "clips" }\n'
        '[table2]\nsystems = ["identity", "my_codec:Codec"]\nmetrics = ["si_sdr"]\n'
        "[statistics]\nresamples = 100\n"
    )
    command = f'"{sys.executable}" -m benchmarks'
    pin = f"{command} tables --suite suite.toml --quiet --executor serial && {command} gate --suite suite.toml --update"
    done = bash(pin, {**os.environ, "PYTHONPATH": str(ROOT), "M2L_CACHE": str(place / "cache")}, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "results" / "theirs" / "table2.json").is_file()
    return place


@pytest.fixture
def repository(pinned: Path, tmp_path: Path) -> Path:
    shutil.copytree(pinned, tmp_path, dirs_exist_ok=True)
    return tmp_path / "theirs"


@pytest.mark.parametrize(
    ("codec", "status", "said", "tag"),
    [
        pytest.param(CODEC.replace("NOISE", "0.01"), 0, "green", None, id="equal", marks=pytest.mark.slow),
        pytest.param(
            CODEC.replace("NOISE", "0.1"), 1, "**worse** my_codec:Codec: SI-SDR changed by -", "failure", id="worse"
        ),
        pytest.param(
            CODEC.replace("return audio", "return audio[missing]"),
            3,
            "**missing** my_codec:Codec: SI-SDR",
            "error",
            id="crashing",
            marks=pytest.mark.slow,
        ),
        pytest.param(CODEC + ")", None, "**missing** identity: SI-SDR", "error", id="no Python"),
    ],
)
def test_the_action_judges_and_comments_whatever_the_codec_does(
    runner: dict[str, str], repository: Path, codec: str, status: int | None, said: str, tag: str | None
) -> None:
    """The committed results of the repository stay out of it: a codec that crashes is not green because of them."""
    (repository / "my_codec.py").write_text(codec)
    found = action(runner, repository, {"suite": "suite.toml"})
    assert found["exit"] == int(found["status"])
    assert found["exit"] in ((2, 3) if status is None else (status,))
    body = (Path(runner["RUNNER_TEMP"]) / "m2l-gate-comment.md").read_text()
    assert body.startswith("<!-- m2l-gate suite.toml -->\n### Gate of suite theirs: ")
    assert said in body or status is None
    assert ("Measuring ended with exit code" in body) == (tag == "error")
    cases = ElementTree.parse(found["junit"]).getroot()
    assert (cases.find(f".//{tag}") is not None) if tag else cases.find(".//testcase") is not None
    if tag is None:
        assert cases.find(".//failure") is None
        assert cases.find(".//error") is None


def test_measuring_that_failed_is_not_excused_as_missing_data(runner: dict[str, str]) -> None:
    environment = {**runner, "STATUS": "3", "MEASURE_STATUS": "1", "FAIL_ON_MISSING": "false"}
    assert bash(script(ACTION, "verdict"), environment).returncode == 3


@pytest.mark.parametrize(("fail", "expected"), [("true", 3), ("false", 0)])
def test_missing_fails_the_job_unless_told_otherwise(runner: dict[str, str], fail: str, expected: int) -> None:
    environment = {**runner, "STATUS": "3", "MEASURE_STATUS": "0", "FAIL_ON_MISSING": fail}
    assert bash(script(ACTION, "verdict"), environment).returncode == expected


def test_the_suite_in_the_actions_comment_is_a_suite(tmp_path: Path) -> None:
    from benchmarks.suite import load_suite

    lines = [line.removeprefix("#") for line in ACTION.read_text().splitlines() if line.startswith("#")]
    start = next(i for i, line in enumerate(lines) if "name = " in line)
    end = next(i for i, line in enumerate(lines[start:], start) if not line.strip())
    (tmp_path / "suite.toml").write_text("\n".join(line.strip() for line in lines[start:end]))
    suite = load_suite(tmp_path / "suite.toml")
    assert suite.table2 is not None
    assert suite.table2.systems == ["my_package.codec:Codec", "opus-16k"]


@pytest.mark.parametrize("known", ["", "17"])
def test_one_comment_is_kept_up_to_date(runner: dict[str, str], tmp_path: Path, known: str) -> None:
    (tmp_path / "m2l-gate.md").write_text("### Gate\n")
    (tmp_path / "comments").write_text(known)
    done = bash(script(ACTION, "comment"), {**runner, "SUITE": "synthetic", "PULL": "5", "GH_TOKEN": "x"})
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "log").read_text().splitlines()[-1]
    expected = "-X PATCH repos/someone/codec/issues/comments/17" if known else "-X POST repos/someone/codec/issues/5"
    assert expected in last
    body = (tmp_path / "m2l-gate-comment.md").read_text()
    assert body == "<!-- m2l-gate synthetic -->\n### Gate\n"


def test_install_step_takes_m2l_from_the_actions_own_checkout(runner: dict[str, str], tmp_path: Path) -> None:
    done = bash(script(ACTION, "install"), {**runner, "M2L": "/action/../../..", "INSTALL": ". extra"})
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].endswith("/action/../../../constraints.txt /action/../../..")
    assert lines[1].endswith("--no-deps -r /action/../../../weights.txt")
    assert lines[2].endswith(" . extra")


def test_history_job_starts_a_branch_and_adds_to_it(runner: dict[str, str], tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]

    def run(folder: Path, *arguments: str) -> str:
        done = subprocess.run([*git, *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    origin = tmp_path / "origin.git"
    run(tmp_path, "init", "-q", "--bare", str(origin))
    shas: list[str] = []
    for number in range(2):
        clone = tmp_path / f"clone{number}"
        run(tmp_path, "clone", "-q", str(origin), str(clone))
        (clone / "code.txt").write_text(str(number))
        run(clone, "add", "-A")
        run(clone, "commit", "-qm", f"change {number}")
        run(clone, "push", "-q", "origin", "HEAD:refs/heads/main")
        run(origin, "symbolic-ref", "HEAD", "refs/heads/main")
        measured = clone / "measured" / "results" / "synthetic"
        measured.mkdir(parents=True)
        table = json.loads((GOLDEN / "table2.json").read_text())
        table["rows"][-1]["cells"]["si_sdr"]["value"] = float(number)
        (measured / "table2.json").write_text(json.dumps(table))
        shas.append(run(clone, "rev-parse", "HEAD"))
        done = bash(script(WORKFLOW, "record"), {**runner, "GITHUB_SHA": shas[-1]}, clone)
        assert done.returncode == 0, done.stderr
    assert run(origin, "ls-tree", "--name-only", "metrics-history").split() == [
        "README.md", "history.svg", "results",
    ]  # fmt: skip
    trend = run(origin, "show", "metrics-history:README.md")
    assert "2 commits" in trend
    assert [sha[:8] in trend for sha in shas] == [True, True]
    assert run(origin, "rev-list", "--count", "metrics-history") == "2"


MAKE = """
mkdir -p .venv/bin results/local
cat >.venv/bin/m2l-bench <<'END'
#!/usr/bin/env bash
[ "$1" = tables ] || exec m2l-bench "$@"
END
printf '#!/usr/bin/env bash\\n' >.venv/bin/m2l
chmod +x .venv/bin/*
echo "make $*" >>"$LOG"
if [ "$*" = tables ]; then
  cp -r "$MEASURED" results/local/synthetic
  rm results/local/synthetic/baseline.json
  touch results/local/synthetic/{figure2.svg,table2.md,scores.csv}
  for file in results/local/synthetic/*.{svg,md} results/local/synthetic/scores.csv; do echo x >$file; done
fi
"""


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [(0.0, 0, "=== fine: lint test tables gate"), (-0.4, 1, "gate: worse: opus-16k: SI-SDR changed by -0.400")],
)
def test_ci_run_judges_what_was_measured_by_the_committed_baseline(
    runner: dict[str, str], tmp_path: Path, change: float, status: int, said: str
) -> None:
    """The whole script on a repository of its own, with `make` played by a stub that "measures"."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / ".ci", repository / ".ci")
    shutil.copytree(GOLDEN, repository / "results" / "synthetic")
    shutil.copy(ROOT / ".gitignore", repository)
    (repository / "pyproject.toml").write_text('[project]\nname = "m2l"\n')
    measured_results(tmp_path / "measured", change)
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    make = tmp_path / "tools" / "make"
    make.write_text("#!/usr/bin/env bash\nset -e\n" + MAKE)
    make.chmod(0o755)
    environment = {**runner, "MEASURED": str(tmp_path / "measured")}
    command = ["bash", str(repository / ".ci" / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    if status:
        assert "on 20 clips; most on synthetic-0000" in done.stderr
    log = (tmp_path / "log").read_text().splitlines()
    assert log[:3] == ["make lint", "make test", "make tables"]


def test_ci_run_refuses_unknown_steps() -> None:
    done = subprocess.run([str(ROOT / ".ci" / "run"), "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no step 'nonsense'" in done.stderr
