"""Everything that can be fetched, by name: data sets, rendered notes, weights.

This is the only place where this package downloads anything. License, size and time are shown before a
transfer; files that are present and correct are skipped; an interrupted fetch resumes when it is run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.datasets.locations import fetched_root
from benchmarks.errors import UsageError
from benchmarks.fetch.corpora import musiccaps
from benchmarks.fetch.corpora.catalog import CORPORA, PAPER_DATA
from benchmarks.fetch.corpora.copies import COPIES, fetch_copy
from benchmarks.fetch.corpora.fetcher import fetch_corpus, folder_of, is_complete
from benchmarks.fetch.corpora.verify import verify_corpus
from benchmarks.fetch.options import Options
from benchmarks.fetch.render_clips import (
    N_CLIPS,
    N_TONES,
    TRAINING_CLIPS,
    render_synthetic,
    render_tones,
    training_folder,
)
from benchmarks.fetch.render_notes import render_notes
from benchmarks.fetch.sources import SOURCES, fetch_source
from benchmarks.fetch.suite import names_for, overview
from benchmarks.fetch.transfer import human, outcome, say
from benchmarks.fetch.weights import fetch_weights
from benchmarks.registry import UnknownNameError
from benchmarks.suite import Suite
from benchmarks.weights.table import WEIGHTS

NOTES = "open-notes"


def fetch(names: Iterable[str], options: Options | None = None) -> list[dict[str, Any]]:
    """Fetch by name; `all` stands for the paper's data.

    Args:
        names: Data sets and weights.
        options: How; None for the defaults.

    Returns:
        For each name: name, dest, summary, failed (messages, empty if all went well), and counts.

    Raises:
        UnknownNameError: Nothing has that name; raised before anything is transferred.
        UsageError: `options.jobs` is below 1.
    """
    how = _checked(options)
    chosen = _known([name for given in names for name in (PAPER_DATA if given == "all" else (given,))])
    return [_fetch_one(name, how) for name in chosen]


def verify(names: Iterable[str], options: Options | None = None) -> list[dict[str, Any]]:
    """Read the paper's data again and compare it with what was fetched and published; no name means all of it.

    Returns:
        As `fetch`; every missing or wrong file has a message in `failed`.

    Raises:
        UnknownNameError: The paper has no data of that name.
        UsageError: `options.jobs` is below 1.
    """
    how = _checked(options)
    given = list(names)
    chosen = PAPER_DATA if not given or "all" in given else _known(given, PAPER_DATA)
    return [_verify_one(name, how) for name in chosen]


def fetch_suite(suite: Suite, options: Options | None = None) -> list[dict[str, Any]]:
    """Fetch everything that a suite needs, after one list of sizes and licenses.

    Returns:
        As `fetch`.
    """
    how = options or Options()
    names = names_for(suite, fetchable())
    for line in overview(suite, names, available(), complete(names, how)):
        say(line)
    return fetch(names, how)


def complete(names: Iterable[str], options: Options) -> set[str]:
    """Which of these data sets are here, as their records say: all archives, or the outcome of every clip."""
    found = set()
    for name in set(names) & set(PAPER_DATA):
        try:
            if name == musiccaps.NAME:
                here = musiccaps.is_complete(options)
            else:
                here = is_complete(CORPORA[name], folder_of(CORPORA[name], options.data))
        except (OSError, ValueError):  # lists that are not here yet, or are damaged
            here = False
        found |= {name} if here else set()
    return found


def fetchable() -> set[str]:
    """All names that `fetch` takes, but for `all`."""
    return {*SOURCES, *PAPER_DATA, *COPIES, NOTES, TRAINING_CLIPS, *WEIGHTS}


def available() -> list[dict[str, Any]]:
    """Rows for a list of what can be fetched: name, kind, what, license, bytes (None if unknown)."""

    def row(name: str, kind: str, what: str, license: str, size: int | None) -> dict[str, Any]:
        return {"name": name, "kind": kind, "what": what, "license": license, "bytes": size}

    rows = [row(s.name, "data", s.title, s.license, s.size) for s in SOURCES.values()]
    rows.append(row(musiccaps.NAME, "data", musiccaps.TITLE, musiccaps.LICENSE, musiccaps.KEPT_BYTES))
    for name in PAPER_DATA[1:]:
        corpus = CORPORA[name]
        rows.append(row(name, "data", corpus.title, corpus.license, corpus.transfer_bytes))
    rows += [row(c.name, "copy", f"{c.title} (--from DIR)", c.license, None) for c in COPIES.values()]
    rows.append(row(NOTES, "rendered", "1,743 notes, rendered from FluidR3", "MIT", 0))
    rows.append(row(TRAINING_CLIPS, "rendered", "generated clips that the shipped checkpoints learned from", "CC0", 0))
    for weight in WEIGHTS.values():
        size = sum(file.planned_size for file in weight.files)
        rows.append(row(weight.name, "weights", weight.used_for, weight.license, size))
    return rows


def listing() -> list[str]:
    """`available` as lines of text."""
    rows = available()
    width = max(len(row["name"]) for row in rows)
    return [
        f"{row['name']:{width}}  {row['kind']:8}  {row['what']} · {row['license']} · "
        + ("rendered here" if row["kind"] == "rendered" else human(row["bytes"]))
        for row in rows
    ]


def _checked(options: Options | None) -> Options:
    how = options or Options()
    if how.jobs < 1:
        raise UsageError(f"--jobs is {how.jobs}, expected at least 1")
    return how


def _known(names: Sequence[str], known: Iterable[str] | None = None) -> list[str]:
    allowed = set(known) if known is not None else fetchable()
    for name in names:
        if name not in allowed:
            raise UnknownNameError("name to fetch", name, allowed)
    return list(dict.fromkeys(names))


def _fetch_one(name: str, options: Options) -> dict[str, Any]:
    if name == musiccaps.NAME:
        return musiccaps.fetch_musiccaps(options)
    if name in CORPORA:
        return fetch_corpus(CORPORA[name], options)
    if name in COPIES:
        return fetch_copy(COPIES[name], options)
    if name == NOTES:
        return _render(options)
    if name == TRAINING_CLIPS:
        return _render_training_clips(options)
    if name in SOURCES:
        return fetch_source(SOURCES[name], options)
    return fetch_weights(name, options)


def _verify_one(name: str, options: Options) -> dict[str, Any]:
    if name == musiccaps.NAME:
        return musiccaps.verify_musiccaps(options)
    corpus = CORPORA[name]
    return verify_corpus(corpus, folder_of(corpus, options.data), jobs=options.jobs)


def _render(options: Options) -> dict[str, Any]:
    root = options.data or fetched_root()
    say(f"{NOTES}: 1,743 notes, rendered by fluidsynth from FluidR3 (not recorded). License: MIT. Into {root}")
    if options.dry_run:
        return outcome(NOTES, root, "would render what is missing")
    try:
        done, complaints = render_notes(root, options.soundfont, progress=lambda text: say(f"  {text}"))
    except (RuntimeError, OSError) as error:
        return outcome(NOTES, root, "not rendered", [str(error)])
    return outcome(NOTES, root, f"{done} notes rendered, {len(complaints)} silent", complaints, fetched=done)


def _render_training_clips(options: Options) -> dict[str, Any]:
    root = training_folder("", options.data)
    say(f"{TRAINING_CLIPS}: {N_CLIPS} clips of synthetic music and {N_TONES} of steady tones, rendered into {root}")
    if options.dry_run:
        return outcome(TRAINING_CLIPS, root, "would render what is missing")
    try:
        folders = [render(root=options.data) for render in (render_synthetic, render_tones)]
    except OSError as error:
        return outcome(TRAINING_CLIPS, root, "not rendered", [str(error)])
    return outcome(TRAINING_CLIPS, root, f"rendered: {', '.join(map(str, folders))}")
