"""Where a verdict goes: stdout, a JUnit file, GitHub's page of the run, and the exit code.

Whatever happens (nothing to judge, a file that cannot be written, a closed pipe), every place says so, and the exit
code is not 0 by mistake.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from json import dumps

from benchmarks.errors import MISSING as MISSING_STATUS
from benchmarks.errors import OK, describe_os_error, discard_output
from benchmarks.gate.judge import MISSING, WORSE, GateReport
from benchmarks.gate.render import junit_of_error, message, to_json, to_junit, to_markdown
from m2l.io.atomic import write_atomic

WORSE_STATUS = 1


def status_of(report: GateReport) -> int:
    """The exit code of a report; a baseline without cells gates nothing, which is missing too."""
    if report.of(WORSE):
        return WORSE_STATUS
    return MISSING_STATUS if report.of(MISSING) or not report.verdicts else OK


@dataclass(frozen=True)
class Output:
    """The places of one run of the gate.

    Attributes:
        suite: as the user named it.
        junit: file for JUnit XML, if any.
        json: print JSON in place of Markdown.
    """

    suite: str
    junit: str | None = None
    json: bool = False

    def verdict(self, report: GateReport) -> int:
        """Write a report everywhere; returns the exit code."""
        status = status_of(report)
        text = to_markdown(report)
        _say(report)
        if self.junit:
            status = _written(status, self.junit, to_junit(report))
        _append_step_summary(text)
        return shown(status, to_json(report, status) if self.json else text)

    def not_judged(self, text: str, status: int) -> int:
        """Say why there is no verdict, wherever somebody may look for one; returns the exit code."""
        with suppress(OSError):
            print(f"m2l-bench: {text}", file=sys.stderr)
        if self.junit:
            _written(status, self.junit, junit_of_error(self.suite, text))
        markdown = f"### Gate of suite {self.suite}: red (not judged)\n\n{text}\n"
        _append_step_summary(markdown)
        record = {"suite": self.suite, "status": status, "error": text}
        return shown(status, dumps(record, indent=2, sort_keys=True) + "\n" if self.json else markdown)


def shown(status: int, text: str) -> int:
    """Print a verdict; a closed pipe does not change it. Returns the exit code."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        discard_output()
        with suppress(OSError):
            print(f"m2l-bench: the verdict cannot be printed: {error.strerror or error}", file=sys.stderr)
        return status or MISSING_STATUS
    return status


def _written(status: int, path: str, text: str) -> int:
    """Write a file; one that cannot be written is no reason to lose a verdict, but none to be green."""
    try:
        write_atomic(path, text)
        return status
    except OSError as error:
        print(f"m2l-bench: {path} is not written: {error.strerror or error}", file=sys.stderr)
        return status or MISSING_STATUS


def _append_step_summary(text: str) -> None:
    """GitHub shows this file's Markdown on the run's page."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            print(f"GITHUB_STEP_SUMMARY is not written: {describe_os_error(error)}", file=sys.stderr)


def _say(report: GateReport) -> None:
    """What is wrong, on stderr too: in a log it stands out from the table."""
    for name in (WORSE, MISSING):
        for item in report.of(name):
            print(f"gate: {name}: {message(item)}", file=sys.stderr)
    if not report.verdicts:
        print("gate: the baseline pins nothing", file=sys.stderr)
