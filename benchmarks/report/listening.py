"""The listening page's clips: which systems can be heard, their audio and pictures from the store, their scores."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.autoencoders.names import label_of
from benchmarks.datasets import Clip, DataNotFoundError
from benchmarks.evaluation.cells import Column, tidy
from benchmarks.evaluation.plan import Planner
from benchmarks.evaluation.systems import SystemRow
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, run_units
from benchmarks.harness.units import Unit
from benchmarks.report.aggregates import Aggregates
from benchmarks.report.media import FORMATS, RenderJob
from benchmarks.report.selection import Choice, choose
from benchmarks.report.systems import page_addresses
from benchmarks.report.tables import contests, tag_of
from benchmarks.report.wording import clock, count, show
from benchmarks.store.fingerprint import code_digest, library_versions
from benchmarks.store.store import CorruptEntryError, Result, Store
from benchmarks.suite import Suite
from benchmarks.tables.table import TableResult

#: Key of the original; no system has it, since an underscore never comes out of `slug`.
ORIGINAL = "_original"
#: Largest difference between the SI-SDR of the audio and the table's that is taken for the same, in dB.
SAME_DB = 0.05
#: All versions of a clip are turned down together so that none clips, by at most this; in dB.
MOST_DOWN_DB = 6.0


@dataclass(frozen=True)
class TrackView:
    """One system's version of a clip; without audio it has a reason.

    `gain` is what the player multiplies its audio by, so that versions keep their levels against each
    other; `rms_db` is the level after that.
    """

    key: str
    label: str
    tag: str
    reason: str = ""
    picture: str = ""
    alt: str = ""
    scores: tuple[tuple[str, str, str], ...] = ()
    gain: float = 1.0
    rms_db: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipView:
    """A clip with all its versions.

    `order` holds the clip's scores as `metric|system -> value`, for ordering in the page.
    """

    id: str
    name: str
    title: str
    by: str
    license: str
    source: str
    seconds: float
    why: tuple[str, ...]
    script: str
    tracks: tuple[TrackView, ...]
    order: dict[str, float]
    turned_down_db: float = 0.0


@dataclass
class Listening:
    """The listening page.

    Attributes:
        reason: why there is nothing to hear; empty otherwise.
        clips: what there is.
        n_clips: how many the suite has.
        audio: the audio's format in words.
        stereo: whether stereo clips are heard in stereo.
        missing: systems of the table that cannot be heard, with reasons.
        checked, unequal: tracks whose SI-SDR was compared with the table's, and those that differ.
        metrics: columns by which clips can be ordered.
        files: relative path -> contents.
    """

    reason: str = ""
    clips: list[ClipView] = field(default_factory=list)
    n_clips: int = 0
    audio: str = ""
    stereo: bool = False
    missing: list[tuple[str, str]] = field(default_factory=list)
    checked: int = 0
    unequal: int = 0
    metrics: list[Column] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ListeningOptions:
    """How many clips ("0" for all), in which format ("none" for no listening page)."""

    clips: int = 12
    audio: str = "mp3"


def build_listening(
    found: Aggregates, suite: Suite | None, store: Store, executor: Executor, run: RunOptions, options: ListeningOptions
) -> Listening:
    """Choose clips, bring their audio and pictures into the store, and read them.

    Nothing is measured: units that the tables left in the store are used, and the reconstructions of the
    chosen clips alone are made where it has none.

    Args:
        found: the results. They are data: no name in them is imported, and no path in them is opened.
        suite: where clips and systems come from, as the user named it; None plays nothing.
        store, executor, run: as for the tables.
        options: clips and format.

    Raises:
        ValueError: an unknown audio format, or a negative number of clips.
    """
    if options.audio == "none":
        return Listening(reason="This report was made without audio (--audio none).")
    if options.audio not in FORMATS:
        raise ValueError(f"audio format {options.audio!r}: it must be one of {', '.join([*FORMATS, 'none'])}")
    table = found.tables.get("table2")
    if table is None:
        return Listening(reason="Table 2 has not been measured, so there are no systems to listen to.")
    if suite is None:
        return Listening(
            reason=f"No suite {found.suite!r} ships with m2l, so the clips are not known: "
            "make this report with --suite FILE, the suite's own file, to hear them."
        )
    planner = Planner(suite, run)
    planner.store = store
    reason = _clips_problem(planner, table)
    if reason:
        return Listening(reason=reason)
    made = Listening(
        n_clips=len(planner.clips),
        audio=FORMATS[options.audio][4],
        stereo=heard_in_stereo(planner),
        metrics=[column for column in contests(table.columns) if column.key in table.scores],
    )
    systems = _systems(planner, table, made)
    keys = {name: Path(page).stem for name, page in page_addresses(found).items()} | {ORIGINAL: ORIGINAL}
    chosen = choose(
        table.scores,
        {column.key: column.title for column in table.columns},
        [row.name for row in table.rows if tag_of(row) != "control"],
        planner.clip_ids,
        options.clips or len(planner.clips),
    )
    units = {
        (choice.clip, label): _unit(planner, choice.clip, row, options.audio)
        for choice in chosen
        for label, row in [(ORIGINAL, None), *systems.items()]
    }
    report = run_units(list(units.values()), store, executor, run)
    clips = {clip.id: clip for clip in planner.clips}
    for index, choice in enumerate(chosen, start=1):
        results = {label: _read(units[choice.clip, label], store, report.failed) for label in [ORIGINAL, *systems]}
        made.clips.append(_clip_view(index, clips[choice.clip], choice, results, keys, table, made, options.audio))
    return made


def _clips_problem(planner: Planner, table: TableResult) -> str:
    """Why the clips of the table cannot be heard here; empty if they can."""
    try:
        if not planner.clips:
            return "The suite has no clips."
    except (DataNotFoundError, FileNotFoundError) as error:
        return f"The clips are not on the machine that made this report: {tidy(str(error))}"
    limited = int(table.provenance.get("n_clips", len(planner.clips)))
    if limited < len(planner.clips):
        planner.options = replace(planner.options, limit=limited)  # the tables were made with --limit
        for name in (
            "suite_clips",
            "clips",
            "groups",
            "clip_ids",
            "manifest_digest",
            "load_units",
            "stereo_units",
            "seconds",
        ):
            planner.__dict__.pop(name, None)
    if planner.manifest_digest != table.provenance.get("clips_sha256"):
        return (
            "The clips on the machine that made this report are not those that were scored "
            f"(their digest is {planner.manifest_digest[:12]}, the table's "
            f"{str(table.provenance.get('clips_sha256'))[:12]}), so they are left out."
        )
    return ""


def _systems(planner: Planner, table: TableResult, made: Listening) -> dict[str, SystemRow]:
    """The measured systems that can run here, by row name; the others go to `made.missing`."""
    section = planner.suite.table2
    options = section.system_options if section else {}
    known: dict[str, tuple[str, int | None]] = {}
    if section:
        known.update((label_of(name), (name, None)) for name in section.systems)
        known.update((f"{label_of(name)}@{count}", (name, count)) for name, count in section.n_steps.items())
    systems: dict[str, SystemRow] = {}
    for row in table.rows:
        if row.metadata.get("available") is False:
            made.missing.append((row.title or row.name, str(row.metadata.get("reason", "not measured"))))
            continue
        if row.name not in known:
            made.missing.append((row.title or row.name, "the suite has no such system"))
            continue
        name, steps = known[row.name]
        try:
            system = planner.system(name, steps, **options.get(name, {}))
        except ValueError as error:  # a system of a package that is not installed here
            made.missing.append((row.title or row.name, tidy(str(error))))
            continue
        if system.reason is not None or system.spec is None:
            made.missing.append((row.title or row.name, f"not on this machine: {tidy(system.reason or '')}"))
        elif system.spec.weights_digest != row.metadata.get("weights_sha256"):
            made.missing.append((row.title or row.name, "the weights here are not those that were measured"))
        else:
            systems[row.name] = system
    return systems


def heard_in_stereo(planner: Planner) -> bool:
    """Whether Table 2 scores stereo outputs, which are then the ones to hear."""
    section = planner.suite.table2
    return section is not None and any(map(planner.sees_stereo, section.metrics))


def _unit(planner: Planner, clip_id: str, row: SystemRow | None, format: str) -> Unit:
    index = planner.clip_ids.index(clip_id) // planner.suite.data.unit_clips
    stereo = heard_in_stereo(planner)
    load = (planner.stereo_units if stereo else planner.load_units)[index]
    seconds = load.amount / max(1, len(load.payload.clips))
    return Unit(
        "media",
        row.label if row else ORIGINAL,
        "benchmarks.report.media:render",
        {"version": 2, "clip": clip_id, "format": format}
        | {"stereo": stereo, "code": code_digest("benchmarks.report.media"), "libraries": library_versions()},
        inputs=(load, (row.stereo if stereo else row.units)[index]) if row else (load,),
        payload=RenderJob(clip_id, format, stereo),
        amount=seconds,
        group=load.group,
    )


def _read(unit: Unit, store: Store, failed: dict[str, Any]) -> Result:
    try:
        return store.get(unit.key)
    except (KeyError, CorruptEntryError):
        done = failed.get(unit.key)
        return Result({"reason": done.error if done else "not computed"})


def _clip_view(
    index: int,
    clip: Clip,
    choice: Choice,
    results: dict[str, Result],
    keys: dict[str, str],
    table: TableResult,
    made: Listening,
    format: str,
) -> ClipView:
    """One clip; its audio and pictures go to `made.files`."""
    id = f"clip-{index:02d}"
    title = _title(clip)
    tracks, sounds = [], {}
    turned = [result.meta["gain_db"] for result in results.values() if "gain_db" in result.meta]
    common = max(min(turned, default=0.0), -MOST_DOWN_DB)
    rows = {row.name: row for row in table.rows}
    for name, result in results.items():
        row = rows.get(name)
        key = keys[name]
        label = "Original" if row is None else row.title or row.name
        tag = "" if row is None else tag_of(row)
        meta = result.meta
        if "reason" in meta:
            tracks.append(TrackView(key, label, tag, reason=str(meta["reason"])))
            continue
        scores = _scores(table, name, clip.id)
        picture = f"pictures/{id}-{key}.png"
        notes = []
        if meta.get("same"):
            picture = f"pictures/{id}-{ORIGINAL}.png"
            sounds[key] = ORIGINAL
            notes.append("bit for bit the original")
        else:
            sounds[key] = base64.b64encode(result.arrays["audio"].tobytes()).decode()
            made.files[picture] = result.arrays["picture"].tobytes()
        own = meta.get("gain_db", results[ORIGINAL].meta.get("gain_db", 0.0))
        if own < common - 0.05:
            notes.append(
                f"{show(common - own, 1)} dB quieter than measured, because its peaks are far above full scale"
            )
        notes += _check(table, name, clip.id, meta, made)
        spoken = ", ".join(f"{metric} {text}" for metric, text, _ in scores)
        alt = f"Mel spectrogram of “{title}”, {label}" + (f": {spoken}" if spoken else "")
        tracks.append(
            TrackView(
                key,
                label,
                tag,
                picture=picture,
                alt=alt,
                scores=tuple(scores),
                gain=round(10 ** (min(0.0, common - own) / 20), 4),
                rms_db=round(meta["rms_db"] + min(common, own), 2),
                notes=tuple(notes),
            )
        )
    script = f"audio/{id}.js"
    packed = {"clip": id, "mime": FORMATS[format][3], "tracks": sounds}
    made.files[script] = f"m2lAudio({json.dumps(packed, sort_keys=True)});\n".encode()
    return ClipView(
        id=id,
        name=clip.id,
        title=title,
        by=str(clip.labels.get("artist", "")),
        license=clip.license or "",
        source=clip.source,
        seconds=max((result.meta.get("seconds", 0.0) for result in results.values()), default=0.0),
        why=choice.reasons,
        script=script,
        tracks=tuple(tracks),
        turned_down_db=-common,
        order={
            f"{metric}|{keys[name]}": values[clip.id]
            for metric, by_system in table.scores.items()
            for name, values in by_system.items()
            if clip.id in values and math.isfinite(values[clip.id])
        },
    )


def _title(clip: Clip) -> str:
    """The clip's title; excerpts of one track, whose ids end in "@SECONDS", are told apart."""
    title = str(clip.labels.get("title") or clip.id)
    _, at, start = clip.id.rpartition("@")
    if at and start.replace(".", "", 1).isdigit() and "@" not in title:
        return f"{title}, from {clock(float(start))}"
    return title


def _scores(table: TableResult, name: str, clip_id: str) -> list[tuple[str, str, str]]:
    """(heading, value, place among the clips) of every metric that scores clips."""
    found = []
    for column in contests(table.columns):
        values = table.scores.get(column.key, {}).get(name, {})
        if clip_id not in values:
            continue
        value = values[clip_id]
        finite = [other for other in values.values() if math.isfinite(other)]
        below = sum(other < value for other in finite)
        place = f"{count(below, 'clip')} of {len(finite)} lower" if len(finite) > 1 and math.isfinite(value) else ""
        found.append((column.title, show(value, column.digits), place))
    return found


def _check(table: TableResult, name: str, clip_id: str, meta: dict[str, Any], made: Listening) -> list[str]:
    """Hold the audio to the table: its SI-SDR (of a stereo clip, that of its side) has to be the one measured."""
    metric = meta.get("checked", "")
    expected = table.scores.get(metric, {}).get(name, {}).get(clip_id)
    value = meta.get(metric)
    if expected is None or value is None or math.isnan(value):
        return []
    made.checked += 1
    if value == expected or abs(value - expected) <= SAME_DB:
        return []
    made.unequal += 1
    title = next((column.title for column in table.columns if column.key == metric), metric)
    return [
        f"this audio has {title} {show(value, 2)} dB, the table says {show(expected, 2)}: "
        "it was made by other code or libraries"
    ]


def systems_heard(clips: Sequence[ClipView]) -> list[tuple[str, str]]:
    """(key, label) of every system with audio on some clip, in the table's order."""
    found: dict[str, str] = {}
    for clip in clips:
        for track in clip.tracks:
            if not track.reason:
                found.setdefault(track.key, track.label)
    return list(found.items())
