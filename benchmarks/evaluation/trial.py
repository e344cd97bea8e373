"""A user's class, tried before anything is measured: does it work on one clip, and what does it read?

Its content key holds what was read while it was imported, constructed and used once, and the parameters it then has.
What units of a run read beyond that is recorded in the store (`Watch`) and is part of the next run's keys.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from benchmarks.harness.units import Unit, Watch
from benchmarks.store.fingerprint import digest
from benchmarks.store.own_code import own_sources, source_digest
from benchmarks.store.reads import Reads, content_digest, entries, read_before, recording
from benchmarks.store.store import Store
from benchmarks.user_code import (
    UserCodeError,
    is_system_failure,
    place_of,
    raised_by_user,
    stdout_to_stderr,
    user_error,
)

#: Clips that are tried: a class that refuses the first (too short, too quiet) may accept the next.
CLIPS = 3
#: How many more are tried if it refused these by a `raise ValueError` of its own: it may be selective, not broken.
FURTHER_CLIPS = 24
#: Seconds of a clip that are tried first; if they are refused, the whole clip is tried.
SECONDS = 3.0
_DEPTH = 5
_WITHOUT_NUMBERS = (str, bytes, int, float, type(None), type, ModuleType, FunctionType, MethodType)

TrialClip = tuple[str, np.ndarray, int]


@dataclass(frozen=True)
class Trial:
    """What a trial of a user's class found.

    Attributes:
        spec: its spec.
        identity: for the content key: files, imported code, parameters.
        watch: for its units.
        error: what it raised on every clip that was tried; None if it worked on one.
        remark: a line for stderr, about results that are not kept.
    """

    spec: Any
    identity: dict[str, Any]
    watch: Watch
    error: UserCodeError | None = None
    remark: str | None = None

    def holds(self) -> bool:
        """Whether the files that were read are still the same."""
        return all(content_digest(path) == then for path, then in self.watch.files.items())


def try_user_code(
    name: str,
    shown: str,
    module: str | None,
    make: Callable[[], Any],
    use: Callable[[Any, np.ndarray, int], Any],
    clips: Callable[[], Sequence[TrialClip]],
    *,
    code: Callable[[], str],
    store: Store | None,
    declared: Callable[[Any], bool] = lambda made: False,
    further: Callable[[], Sequence[TrialClip]] = lambda: (),
    unseen: str = "",
) -> Trial:
    """Construct a user's class, run it on a clip, and say what its results depend on.

    Args:
        name: how it was asked for, without a label.
        shown: the same for people, without this machine's folders.
        module: where it is; None for a program.
        make, use: construct it; run it on audio `(channels, samples)` at a rate.
        clips: clips to try.
        code: digest of its source code, called once it is imported.
        store: where earlier runs wrote down what their units read.
        declared: whether its spec says what the results depend on (weights, a version).
        further: more clips, for a class that refused `clips`.
        unseen: why its results cannot be kept, of an object with parts that cannot be seen.

    Raises:
        UserCodeError: it cannot be constructed, by an error of its own code.
        Exception: it cannot be constructed for another reason (no such module, a wrong option, a wrong spec).
    """
    audio = clips()  # before the recording: what a clip is read from is in the key already
    with stdout_to_stderr(), recording() as reads:
        made = constructed(make)
        spec = made.spec
        before = state_digest(made, arrays=True)
        error, refused = _try(shown, made, use, audio)
    if refused and (more_audio := further()):
        with stdout_to_stderr(), recording() as more:
            error = error if _try(shown, made, use, more_audio)[0] else None
        reads.add(more)
    state = [before, state_digest(made, arrays=False)]
    watch, identity = _dependencies(shown if module else name, module, reads, code(), state, store)
    remark = None
    if unseen and not declared(made):
        watch, remark = replace(watch, keep=False), unseen
    if watch.opaque and not declared(made):
        watch = replace(watch, keep=False)
        remark = (
            f"{shown}: it starts {', '.join(watch.opaque)}, and what a program reads cannot be seen, so its results "
            "are measured anew by every run; a 'version' that you change with the program lets them be kept"
        )
    del made
    gc.collect()
    return Trial(spec, identity, watch, error, remark)


def constructed(make: Callable[[], Any]) -> Any:
    """What `make` returns.

    Raises:
        UserCodeError: an exception in the user's code, `sys.exit` included.
        Exception: any other, as it is.
    """
    try:
        return make()
    except (Exception, SystemExit) as error:
        if place_of(error) is None and not isinstance(error, (SystemExit, SyntaxError)):
            raise
        raise user_error(error) from error


def _try(
    shown: str, made: Any, use: Callable[[Any, np.ndarray, int], Any], clips: Sequence[TrialClip]
) -> tuple[UserCodeError | None, bool]:
    """The first error if every clip failed, and whether each was refused by a `raise ValueError` of the user's."""
    first: UserCodeError | None = None
    refused = True
    for clip, audio, rate in clips:
        short = audio[:, : round(SECONDS * rate)]
        for part in (short, audio) if short.shape != audio.shape else (audio,):
            try:
                use(made, part.copy(), rate)
                return None, False
            except (Exception, SystemExit) as error:
                found = user_error(error, clip)
                if place_of(error) is None:  # of what it returned: no line of the user's is at fault
                    found = UserCodeError(f"{shown}, {found}", found.missing, found.details)
                if is_system_failure(error):
                    return found, False
                refused = refused and isinstance(error, ValueError) and raised_by_user(error)
        first = first or found
    return first, refused and first is not None


def _dependencies(
    name: str, module: str | None, reads: Reads, code: str, state: Any, store: Store | None
) -> tuple[Watch, dict[str, Any]]:
    sources: dict[str, Path] = {}
    if module is not None:
        with contextlib.suppress(ModuleNotFoundError):  # made in memory: it has no file
            sources = own_sources(module)[0]
    static = {os.path.realpath(path) for path in sources.values()}
    reads.add(read_before(static))
    folder = digest([name, code])
    base = sources[module].resolve().parent if module in sources else None
    paths = sorted({*_noted(folder, store), *reads.kept()} - static)
    more_code = sorted(reads.code - static)
    identity = {
        "files": entries(paths, base),
        "code": sorted([Path(path).name, source_digest(Path(path))] for path in more_code),
        "state": state,
    }
    seen = {path: content_digest(path) for path in paths}
    return Watch(folder, seen, tuple(sorted(reads.opaque))), identity


def _noted(folder: str, store: Store | None) -> list[str]:
    """Files that units of earlier runs read beyond what a trial does."""
    records = store.records(f"reads/{folder}").values() if store is not None else ()
    return sorted({str(path) for record in records for path in record.get("paths", ())})


@contextlib.contextmanager
def watching(unit: Unit, store: Store) -> Iterator[None]:
    """Check that a unit of a user's code reads the same files as when it was planned.

    Raises:
        RuntimeError: a file has changed since; the results would be stored under a wrong key.
    """
    watch = unit.watch
    if watch is None:
        yield
        return
    with recording() as reads:
        yield
    now = {path: content_digest(path) for path in watch.files if not os.path.isdir(path)}
    changed = [path for path, found in now.items() if found not in (watch.files[path], "absent")]
    if changed:
        raise RuntimeError(f"{Path(changed[0]).name} changed during the run; run again")
    more = [path for path in reads.kept() if path not in watch.files]
    if more:
        store.put_record(f"reads/{watch.folder}/{unit.key}.json", {"paths": more})


def state_digest(made: Any, *, arrays: bool) -> str:
    """Digest of the numbers an object holds: parameters of its networks and (`arrays`) all arrays within reach.

    It distinguishes weights that were read in a way that cannot be observed.
    """
    sha = hashlib.sha256()
    seen: set[int] = set()

    def visit(value: Any, name: str, depth: int) -> None:
        if isinstance(value, _WITHOUT_NUMBERS) or depth > _DEPTH or id(value) in seen:
            return
        seen.add(id(value))
        if _is_module(value):
            for key, tensor in value.named_parameters():
                _update(sha, f"{name}.{key}", tensor)
            for key, tensor in value.named_buffers() if arrays else ():
                _update(sha, f"{name}.{key}", tensor)
        if isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "numel")):
            if arrays:
                _update(sha, name, value)
            return
        if isinstance(value, Mapping):
            items: Any = list(value.items())[:10_000]
        elif isinstance(value, (list, tuple)):
            items = list(enumerate(value))[:10_000]
        else:
            members = getattr(value, "__dict__", {}).items()
            items = [item for item in members if not (item[0].startswith("_") and _is_module(value))]
        for key, item in items:
            visit(item, f"{name}.{key}", depth + 1)

    visit(made, "", 0)
    return sha.hexdigest()


def _is_module(value: Any) -> bool:
    return callable(getattr(value, "named_parameters", None)) and callable(getattr(value, "named_buffers", None))


def _update(sha: Any, name: str, value: Any) -> None:
    try:
        if hasattr(value, "detach"):
            import torch

            value = value.detach().cpu().contiguous()
            value = (value.view(torch.uint8) if value.dim() else value.reshape(1).view(torch.uint8)).numpy()
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            return
        sha.update(f"{name} {array.shape} {array.dtype}".encode())
        sha.update(array.tobytes())
    except (RuntimeError, TypeError, ValueError):  # lazy or meta tensors hold no numbers
        sha.update(f"{name} {type(value).__name__}".encode())
