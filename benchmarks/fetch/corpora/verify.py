"""`m2l-bench fetch verify NAME`: everything that was fetched, read again and compared."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, audio_info
from benchmarks.datasets.base import ClipError
from benchmarks.datasets.records import Member, read_record, read_records, records_digest
from benchmarks.fetch.corpora.adopt import digests
from benchmarks.fetch.corpora.corpus import Corpus
from benchmarks.fetch.download import mismatch
from benchmarks.fetch.sources import Item
from benchmarks.fetch.transfer import say

_SHOWN = 20


def verify_corpus(corpus: Corpus, folder: Path, *, jobs: int = 4) -> dict[str, Any]:
    """Read a data set again: sizes, sha256 as recorded, checksums as published, sample rates, counts.

    Args:
        corpus: What it should be.
        folder: Where it is.
        jobs: Files at the same time.

    Returns:
        name, dest, summary, failed: a message for every file that is missing or wrong; checked, digest
        (of the records), archives (how many of how many are there).
    """
    problems = [problem for item in corpus.items if (problem := _item_problem(folder, item))]
    try:
        published = corpus.published(folder)
        damaged = corpus.damaged(folder)
        archives = corpus.archives(folder, published)
    except (OSError, ValueError) as error:
        return _report(corpus, folder, [*problems, f"the lists of the data set: {error}"], 0, 0, 0)
    present = [archive for archive in archives if read_record(folder, archive.name) is not None]
    records = read_records(folder)
    for archive in archives:
        wanted = [p for p in published if archive.holds(p) and p not in damaged and p not in records]
        if archive not in present:
            problems.append(f"{archive.name}: not fetched")
        problems += [f"{path}: {_unrecorded(folder / path)}" for path in wanted]
    members = list(records.values())

    def check(member: Member) -> str | None:
        audible = member.path not in damaged
        return _problem(corpus, folder, member, published.get(member.path), audible)

    with ThreadPoolExecutor(jobs) as pool:
        checks = pool.map(check, members)
        found = list(tqdm(checks, total=len(members), desc=f"verify {corpus.name}", unit="file"))
    problems += [problem for problem in found if problem]
    return _report(corpus, folder, problems, len(members), len(present), len(archives))


def _item_problem(folder: Path, item: Item) -> str | None:
    path = folder / item.path
    reason = mismatch(path, item.expected) if path.is_file() else "missing"
    return f"{item.path}: {reason}" if reason else None


def _unrecorded(path: Path) -> str:
    return "there, but not from a fetch that was completed" if path.is_file() else "missing"


def _problem(corpus: Corpus, folder: Path, member: Member, expected: str | None, audible: bool) -> str | None:
    """What is wrong with one file, or None."""
    path = folder / member.path
    if not path.is_file():
        return f"{member.path}: missing"
    size = path.stat().st_size
    if size != member.size:
        return f"{member.path}: {size} bytes, recorded are {member.size}"
    algorithm, _, wanted = expected.partition(":") if expected else (None, "", "")
    sha256, published = digests(path, algorithm)
    if sha256 != member.sha256:
        return f"{member.path}: sha256 is {sha256}, recorded is {member.sha256}"
    if expected and published != wanted:
        return f"{member.path}: {algorithm} is {published}, published is {wanted}"
    if path.suffix.lower() in AUDIO_SUFFIXES and audible:
        return _audio_problem(corpus, path, member.path)
    return None


def _audio_problem(corpus: Corpus, path: Path, name: str) -> str | None:
    try:
        rate, _, seconds = audio_info(path)
    except ClipError as error:
        return f"{name}: {str(error).removeprefix(f'{path}: ')}"
    if corpus.sample_rates and rate not in corpus.sample_rates:
        return f"{name}: {rate} Hz, expected {' or '.join(map(str, corpus.sample_rates))}"
    return None if seconds > 0 else f"{name}: no samples"


def _report(
    corpus: Corpus, folder: Path, problems: Sequence[str], checked: int, present: int, archives: int
) -> dict[str, Any]:
    for problem in problems[:_SHOWN]:
        say(f"  {problem}")
    if len(problems) > _SHOWN:
        say(f"  … and {len(problems) - _SHOWN} more (--json lists all)")
    digest = records_digest(folder)
    wrong = f"{len(problems)} problems" if problems else "all as it should be"
    return {
        "name": corpus.name,
        "dest": str(folder),
        "summary": f"{checked} files of {present} of {archives} archives checked, {wrong}; "
        f"manifest {digest[:16]}",
        "failed": list(problems),
        "checked": checked,
        "digest": digest,
    }
