"""A gate's verdicts as Markdown, JUnit XML and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from benchmarks.gate.judge import BETTER, MISSING, SAME, SAMPLE, VERDICTS, WORSE, GateReport, Verdict
from benchmarks.gate.record import OTHERS, TABLE
from benchmarks.statistics.significance import POWER
from benchmarks.tables.text import ABSENT, interval_text, json_text, markdown_table, number_text

#: Clips named in a message.
_CLIPS_NAMED = 3


def message(verdict: Verdict) -> str:
    """One sentence: system, metric, size, clips."""
    head = f"{verdict.system}: {verdict.title}"
    if verdict.verdict == MISSING:
        return f"{head} (pinned {number_text(verdict.baseline, verdict.digits)}): {verdict.reason}"
    size = f"{_change(verdict)}{_floor(verdict)}"
    text = (
        f"{head} changed by {size}, "
        f"from {number_text(verdict.baseline, verdict.digits)} to {number_text(verdict.current, verdict.digits)}, "
        f"on {_sizes(verdict)}"
    )
    if verdict.verdict == WORSE:
        if verdict.collapsed:
            count = len(verdict.collapsed)
            text += f"; {count} clip{'s' if count > 1 else ''} collapsed"
        if named := _named_clips(verdict):
            text += f"; {named}"
        if verdict.reason:
            text += f"; besides, {verdict.reason}"
    return text


def _sizes(verdict: Verdict) -> str:
    """Clips, and their groups where those are fewer."""
    groups = f" of {verdict.n_groups} group{'s' if verdict.n_groups > 1 else ''}"
    return f"{verdict.n} clips{groups if verdict.n_groups < verdict.n else ''}"


def _floor(verdict: Verdict) -> str:
    """Note that scores were clamped, so that the change is not the difference of the two means."""
    values = [value for value in (verdict.baseline, verdict.current) if value is not None]
    return f" (clips clamped to at least {verdict.floor:g})" if min(values, default=0.0) < verdict.floor else ""


def to_markdown(report: GateReport) -> str:
    """Verdict, what is worse or missing in words, and the table of all pinned cells."""
    counts = report.counts
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name]) or "nothing pinned"
    mark = "red" if counts[WORSE] or counts[MISSING] else "green"
    lines = [f"### Gate of suite {report.suite}: {mark} ({summary})", ""]
    for name in (WORSE, MISSING, BETTER):
        lines += [f"- **{name}** {message(item)}" for item in report.of(name)]
    if len(lines) > 2:
        lines.append("")
    header = [
        "system", "metric", "baseline", "now", "change [95 %]", "tolerance", "detectable", "p", "clips (groups)",
        "verdict",
    ]  # fmt: skip
    changed = [_row(item) for name in (WORSE, MISSING, BETTER) for item in report.of(name)]
    if changed:
        lines += [markdown_table(header, changed), ""]
    if same := [_row(item) for item in report.of(SAME)]:
        lines += [f"<details><summary>{len(same)} cells are the same</summary>", ""]
        lines += [markdown_table(header, same), "", "</details>", ""]
    footnotes = dict.fromkeys(item.reason for item in report.of(SAME) if item.reason)
    for reason in footnotes:
        cells = [f"{item.system} {item.title}" for item in report.of(SAME) if item.reason == reason]
        lines.append(f"{reason.capitalize()}: {', '.join(cells)}  ")
    if report.notes:
        lines.append(f"Differs from the baseline's run: {'; '.join(report.notes)}  ")
    if report.unpinned:
        cells = [f"{system} {metric}" for metric, system in report.unpinned]
        lines.append(f"Measured and not pinned: {', '.join(cells)}  ")
    chance = f"and p (one-sided, paired jackknife over groups of clips, Holm over all cells) below {report.alpha:g}"
    rule = "whatever p is (strict)" if report.strict else chance
    lines += [
        f"Worse: beyond the tolerance, {rule}; or a clip collapsed. Detectable: the smallest change caught with "
        f"probability {POWER:g}, given the spread of the differences seen between groups.  "
    ]
    lines += [f"{text}  " for text in _power_lines(report)]
    return "\n".join(lines).rstrip() + "\n"


def _power_lines(report: GateReport) -> list[str]:
    """What the groups at hand can show, by metric: the chance of catching a change of `SAMPLE` tolerances."""
    found: dict[tuple[str, int, int], list[Verdict]] = {}
    for item in report.verdicts:
        if not math.isnan(item.power) and item.table == TABLE:
            found.setdefault((item.title, item.n_groups, item.n), []).append(item)
    lines = []
    for (title, _, _), items in found.items():
        least = min(items, key=lambda item: item.power)
        sizes = {number_text(item.sample_change, _finer(item)) for item in items}
        size = sizes.pop() if len(sizes) == 1 else f"{SAMPLE:g} tolerances"
        chance = f"{least.power:.2f} at least ({least.system})" if least.power < 0.995 else "1.00"
        lines.append(f"{title}: a change of {size} in {_sizes(least)} is caught with probability {chance}")
    return lines


def to_json(report: GateReport, status: int) -> str:
    """Everything, for programs; infinities are strings, NaN is null."""
    record = asdict(report) | {"counts": report.counts, "status": status}
    record["verdicts"] = [
        asdict(item) | {"message": message(item), "clips": dict(item.clips)} for item in report.verdicts
    ]
    for verdict in record["verdicts"]:
        del verdict["floor"]  # the message names it where it matters
    return json_text(record)


def to_junit(report: GateReport) -> str:
    """JUnit XML: a case per pinned cell; worse is a failure, missing an error."""
    counts = report.counts
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=f"gate.{report.suite}",
        tests=str(len(report.verdicts)),
        failures=str(counts[WORSE]),
        errors=str(counts[MISSING]),
    )
    for item in report.verdicts:
        place = report.suite if item.table == TABLE else f"{report.suite}.{item.table}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=_xml(f"gate.{place}.{item.system}"), name=_xml(item.metric)
        )
        tag = {WORSE: "failure", MISSING: "error"}.get(item.verdict)
        if tag is not None:
            found = ElementTree.SubElement(case, tag, type=item.verdict, message=_xml(message(item)))
            found.text = _xml("\n".join(f"{clip}: {change:+.6g}" for clip, change in item.clips[:20]))
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(message(item))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _row(item: Verdict) -> list[str]:
    compared = not math.isnan(item.change)
    finer = _finer(item)
    return [
        item.system,
        f"{item.title} {'↑' if item.higher_is_better else '↓'}",
        number_text(item.baseline, item.digits),
        number_text(item.current, item.digits),
        _change(item),
        number_text(item.tolerance, finer),
        number_text(item.detectable if compared else None, finer),
        f"{item.p:.2g}" if compared else ABSENT,
        str(item.n) if item.n_groups == item.n else f"{item.n} ({item.n_groups})",
        f"**{item.verdict}**" if item.verdict != SAME else SAME,
    ]


def _named_clips(item: Verdict) -> str:
    """The clips that moved most in the bad direction; sizes where a clip has a score of its own."""
    sign = -1.0 if item.higher_is_better else 1.0
    worst = [(clip, change) for clip, change in item.clips if sign * change > 0][:_CLIPS_NAMED]
    if not worst:
        return ""
    if item.metric.partition(":")[2]:
        return "pulled most by " + ", ".join(clip for clip, _ in worst)
    return "most on " + ", ".join(f"{clip} ({number_text(change, item.digits, signed=True)})" for clip, change in worst)


def _finer(item: Verdict) -> int:
    """One decimal more than the table shows: changes are smaller than values."""
    return item.digits + 1


def _change(item: Verdict) -> str:
    """The change with its interval."""
    digits = _finer(item)
    shown = number_text(item.change, digits, signed=True)
    return shown + interval_text(item.low, item.high, digits, signed=True)


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(
        char
        for char in text
        if char in "\t\n" or (ord(char) >= 32 and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff")
    )


def difference_lines(before: GateReport | None, pinned: Sequence[tuple[str, str, str, Any]]) -> list[str]:
    """For `--update`: what the new baseline changes, cell by cell.

    Args:
        before: verdicts of the new numbers against the old baseline; None when there was none.
        pinned: (table, metric, system, value) of the new baseline.
    """
    new = {tuple(key): value for *key, value in pinned}
    if before is None:
        return [f"First baseline: {len(new)} cells pinned."]
    old = {(item.table, item.metric, item.system): item for item in before.verdicts}
    lines = []
    for key, item in old.items():
        name = f"{item.system} {item.title}"
        if key not in new:
            lines.append(f"- no longer pinned: {name} ({number_text(item.baseline, item.digits)}): {item.reason}")
        elif new[key] != item.baseline:
            now = number_text(new[key], item.digits)
            lines.append(f"- {name}: {number_text(item.baseline, item.digits)} -> {now} ({item.verdict})")
    fresh = [key for key in new if key not in old]
    lines += [f"- newly pinned: {system} {metric}" for table, metric, system in fresh if table == TABLE]
    for table, name in OTHERS.items():
        if count := sum(key[0] == table for key in fresh):
            lines.append(f"- newly pinned: {count} cells of {name}")
    same = sum(key in new and new[key] == item.baseline for key, item in old.items())
    return [*lines, f"{same} of {len(new)} pinned values are unchanged."]


def junit_of_error(suite: str, text: str) -> str:
    """JUnit XML of a gate that could not judge: one error."""
    root = ElementTree.Element("testsuites")
    found = ElementTree.SubElement(root, "testsuite", name=_xml(f"gate.{suite}"), tests="1", failures="0", errors="1")
    case = ElementTree.SubElement(found, "testcase", classname=_xml(f"gate.{suite}"), name="gate")
    ElementTree.SubElement(case, "error", type="not judged", message=_xml(text))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
