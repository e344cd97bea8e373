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

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ACTION = ROOT / ".github" / "actions" / "gate" / "action.yml"
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
    """The committed results with the SI-SDR of every clip of one codec changed, as if measured."""
    shutil.copytree(ROOT / "results" / "synthetic", folder)
    table = folder / "table2.json"
    record = json.loads(table.read_text())
    scores = record["scores"]["si_sdr"]["opus-16k"]
    record["scores"]["si_sdr"]["opus-16k"] = {clip: value + change for clip, value in scores.items()}
    table.write_text(json.dumps(record))


@pytest.mark.parametrize("path", [ACTION, WORKFLOW], ids=["action", "workflow"])
def test_scripts_parse_and_take_no_text_from_expressions(path: Path) -> None:
    for step in steps_of(path):
        if "run" in step:
            done = subprocess.run(
                ["bash", "-n"], input=step["run"], text=True, capture_output=True, check=False
            )
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


@pytest.mark.parametrize(("change", "status"), [(0.0, 0), (-2.0, 1)])
def test_the_actions_gate_step_hands_the_status_on(
    runner: dict[str, str], tmp_path: Path, change: float, status: int
) -> None:
    measured_results(tmp_path / "results" / "synthetic", change)
    environment = {
        **runner,
        "SUITE": "synthetic",
        "RESULTS": str(tmp_path / "results"),
        "BASELINE": "",
        "STRICT": "true",
    }
    done = bash(script(ACTION, "gate"), environment)
    assert done.returncode == 0, done.stderr  # the verdict comes after the comment
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert outputs["status"] == str(status)
    assert Path(outputs["junit"]).is_file()
    assert ("opus-16k: SI-SDR changed by -2.000" in Path(outputs["markdown"]).read_text()) == bool(change)
    done = bash(script(ACTION, "verdict"), {**runner, "STATUS": outputs["status"], "FAIL_ON_MISSING": "true"})
    assert done.returncode == status


@pytest.mark.parametrize(("fail", "expected"), [("true", 3), ("false", 0)])
def test_missing_fails_the_job_unless_told_otherwise(
    runner: dict[str, str], fail: str, expected: int
) -> None:
    done = bash(script(ACTION, "verdict"), {**runner, "STATUS": "3", "FAIL_ON_MISSING": fail})
    assert done.returncode == expected


@pytest.mark.parametrize("known", ["", "17"])
def test_one_comment_is_kept_up_to_date(runner: dict[str, str], tmp_path: Path, known: str) -> None:
    (tmp_path / "m2l-gate.md").write_text("### Gate\n")
    (tmp_path / "comments").write_text(known)
    done = bash(script(ACTION, "comment"), {**runner, "SUITE": "synthetic", "PULL": "5", "GH_TOKEN": "x"})
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "log").read_text().splitlines()[-1]
    expected = (
        "-X PATCH repos/someone/codec/issues/comments/17" if known else "-X POST repos/someone/codec/issues/5"
    )
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
        shutil.copy(ROOT / "results" / "synthetic" / "table2.json", measured)
        sha = run(clone, "rev-parse", "HEAD")
        done = bash(script(WORKFLOW, "record"), {**runner, "GITHUB_SHA": sha}, clone)
        assert done.returncode == 0, done.stderr
    assert run(origin, "ls-tree", "--name-only", "metrics-history").split() == [
        "README.md", "history.jsonl", "history.svg",
    ]  # fmt: skip
    record = run(origin, "show", "metrics-history:history.jsonl").splitlines()
    assert len(record) == 2
    assert "2 commits" in run(origin, "show", "metrics-history:README.md")
    assert run(origin, "rev-list", "--count", "metrics-history") == "2"


MAKE = """
mkdir -p .venv/bin results/synthetic
cat >.venv/bin/m2l-bench <<'END'
#!/usr/bin/env bash
[ "$1" = tables ] || exec m2l-bench "$@"
END
printf '#!/usr/bin/env bash\\n' >.venv/bin/m2l
chmod +x .venv/bin/*
echo "make $*" >>"$LOG"
if [ "$*" = tables ]; then
  ls results/synthetic >>"$LOG"
  cp -n "$MEASURED"/* results/synthetic/ || true
fi
"""


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (0.0, 0, "=== fine: lint test tables gate"),
        (-0.4, 1, "gate: worse: opus-16k: SI-SDR changed by -0.400"),
    ],
)
def test_ci_run_judges_what_was_measured_by_the_committed_baseline(
    runner: dict[str, str], tmp_path: Path, change: float, status: int, said: str
) -> None:
    """The whole script on a repository of its own, with `make` played by a stub that "measures"."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / ".ci", repository / ".ci")
    shutil.copytree(ROOT / "results" / "synthetic", repository / "results" / "synthetic")
    measured_results(tmp_path / "measured", change)
    (tmp_path / "measured" / "baseline.json").write_text("not the committed one")
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
    assert log[:4] == [
        "make lint",
        "make test",
        "make tables",
        "baseline.json",
    ]  # made afresh, but the baseline


def test_ci_run_refuses_unknown_steps() -> None:
    done = subprocess.run(
        [str(ROOT / ".ci" / "run"), "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no step 'nonsense'" in done.stderr
