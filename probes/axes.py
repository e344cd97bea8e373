"""Whether a representation returns (n_frames, dim): told from one clip at two lengths, before a run.

With swapped axes, the mean over time is a mean over features. If all clips have the same length, nothing else shows it
but scores at the level of chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.datasets import Clip
from benchmarks.store.fingerprint import digest
from benchmarks.store.store import CorruptEntryError, Result, Store

#: The shorter length in seconds; the longer one is twice as long.
SECONDS = 5.0
#: Clips tried until one can be read and processed.
_TRIED = 3


def axis_problem(
    representation: Any, identity: Mapping[str, Any], clips: Sequence[Clip], store: Store, *, ask: bool = True
) -> str | None:
    """What is wrong with the shape of a representation's output; None if nothing is, or if it cannot be determined.

    Args:
        representation: has `extract`.
        identity: what determines its vectors; the answer is stored under it.
        clips: of the task.
        store: where answers are kept.
        ask: whether to compute an answer that the store lacks.
    """
    tried = clips[:_TRIED]
    key = digest({"axes": 1, "identity": identity, "clips": [clip.digest for clip in tried]})
    try:
        return store.get(key).meta["problem"]
    except (KeyError, CorruptEntryError):
        if not ask:
            return None
    for clip in tried:
        try:
            problem = _compare(representation, *clip.load())
        except (Exception, SystemExit):  # the run meets it again, and reports it with the clip
            continue
        store.put(key, Result({"problem": problem}))
        return problem
    return None


def _compare(representation: Any, audio: np.ndarray, rate: int) -> str | None:
    short = audio[:, : max(1, round(SECONDS * rate))]
    long = np.concatenate([short, short], axis=1)
    seconds = [sound.shape[1] / rate for sound in (short, long)]
    second = _shapes(representation, long, rate)
    first = _shapes(representation, short, rate)
    for output in sorted(first.keys() & second.keys()):
        if first[output][-1] == second[output][-1] or first != _shapes(representation, short, rate):
            continue  # as it should be, or changing from call to call, which the run reports
        flipped = bool(getattr(representation, "transposed", False))
        shapes = [shape[::-1] if flipped else shape for shape in (first[output], second[output])]
        call, order = ("features", "(dim, frames)") if flipped else ("extract", "(n_frames, dim)")
        name = "the output" if output == "features" else f"output {output!r}"
        text = f"{name} has shape {shapes[0]} for {seconds[0]:g} s of audio and {shapes[1]} for {seconds[1]:g} s"
        advice = ", so transpose it" if first[output][0] == second[output][0] > 1 else ""
        return f"{text}: its dimension follows the length; {call} must return {order}{advice}"
    return None


def _shapes(representation: Any, audio: np.ndarray, rate: int) -> dict[str, tuple[int, ...]]:
    found = representation.extract(audio, rate)
    return {str(name): np.shape(values) for name, values in found.items() if np.ndim(values) == 2}
