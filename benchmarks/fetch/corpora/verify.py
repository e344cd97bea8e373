"""`m2l-bench fetch verify NAME`: everything that was fetched, read again and compared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, audio_info
from benchmarks.datasets.base import ClipError
from benchmarks.datasets.records import Member, read_record, read_records, records_digest
from benchmarks.fetch.corpora.adopt import differs
from benchmarks.fetch.corpora.corpus import Corpus
from benchmarks.fetch.expected import mismatch
from benchmarks.fetch.transfer import outcome


def verify_corpus(corpus: Corpus, folder: Path, *, jobs: int = 4) -> dict[str, Any]:
    """Read a data set again: sizes, sha256 as recorded, checksums as published, sample rates, counts.

    Args:
        corpus: What it should be.
        folder: Where it is.
        jobs: Files at the same time.

    Returns:
        name, dest, summary, failed (a message for every file that is missing or wrong), checked, digest (of the
        records).
    """
    # The plain files, and the lists in them.
    problems = []
    for item in corpus.items:
        path = folder / item.path
        if reason := mismatch(path, item.expected) if path.is_file() else "missing":
            problems.append(f"{item.path}: {reason}")
    members: list[Member] = []
    present, total = 0, 0
    try:
        published, damaged, archives = (corpus.published(folder), corpus.damaged(folder), corpus.archives(folder))
    except (OSError, ValueError) as error:
        problems.append(f"the lists of the data set: {error}")
    else:
        # What should be recorded.
        records = read_records(folder)
        members, total = list(records.values()), len(archives)
        for archive in archives:
            present += (here := read_record(folder, archive.name) is not None)
            problems += [] if here else [f"{archive.name}: not fetched"]
        problems += [
            f"{path}: {'exists, but not from a completed fetch' if (folder / path).is_file() else 'missing'}"
            for archive in archives
            for path in archive.files(published, damaged)
            if path not in records
        ]

        # What is recorded.
        def check(member: Member) -> str | None:
            return _problem(corpus, folder, member, published.get(member.path), member.path not in damaged)

        with ThreadPoolExecutor(jobs) as pool:
            checks = pool.map(check, members)
            bar = tqdm(checks, total=len(members), desc=f"verify {corpus.name}", unit="file")
            problems += [problem for problem in bar if problem]
    digest = records_digest(folder)
    verdict = f"{len(problems)} problems" if problems else "no problems"
    summary = f"{len(members)} files of {present} of {total} archives checked, {verdict}; manifest {digest[:16]}"
    return outcome(corpus.name, folder, summary, problems, checked=len(members), digest=digest)


def _problem(corpus: Corpus, folder: Path, member: Member, expected: str | None, audible: bool) -> str | None:
    """What is wrong with one file, or None."""
    path = folder / member.path
    if not path.is_file():
        return f"{member.path}: missing"
    size = path.stat().st_size
    if size != member.size:
        return f"{member.path}: {size} bytes, recorded are {member.size}"
    sha256, reason = differs(path, expected)
    if sha256 != member.sha256:
        return f"{member.path}: sha256 is {sha256}, recorded is {member.sha256}"
    if reason:
        return f"{member.path}: {reason}"
    if path.suffix.lower() not in AUDIO_SUFFIXES or not audible:
        return None
    try:
        rate, _, seconds = audio_info(path)
    except ClipError as error:
        return f"{member.path}: {str(error).removeprefix(f'{path}: ')}"
    if corpus.sample_rates and rate not in corpus.sample_rates:
        return f"{member.path}: {rate} Hz, expected {' or '.join(map(str, corpus.sample_rates))}"
    return None if seconds > 0 else f"{member.path}: no samples"
