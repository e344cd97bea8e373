"""Groups of clips that are not independent of each other, as clips and data sets state them.

Excerpts of one track resemble each other, so a hundred of them are not a hundred observations: whatever resamples
clips resamples their groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.datasets.base import Clip, Dataset


def group_name(dataset: Dataset) -> str:
    """What a data set calls its groups of clips ("track")."""
    return str(getattr(dataset, "group_name", "") or "group")


def groups_of(clips: Sequence[Clip]) -> dict[str, str]:
    """Clip id -> group, of those clips that are not their own group."""
    return {clip.id: clip.group for clip in clips if clip.cluster != clip.id}


def describe(clips: Sequence[Clip], name: str) -> str:
    """The number of clips, and of their groups and artists where these are fewer.

    Args:
        clips: All clips that are meant.
        name: What a group is called.

    >>> describe([], "track")
    '0 clips'
    """
    text = _count(len(clips), "clip")
    n_groups = len({clip.cluster for clip in clips})
    if n_groups < len(clips):
        text += f" of {_count(n_groups, name)}"
    artists = {clip.labels.get("artist") for clip in clips}
    if None not in artists and len(artists) < n_groups:
        text += f" by {_count(len(artists), 'artist')}"
    return text


def spread(clips: Sequence[Clip], n: int) -> list[Clip]:
    """The first clip of each of the first n groups, then (with fewer groups) their second clips, and so on.

    Returns:
        n clips, or all there are, in the order in which they came.
    """
    turns: dict[str, int] = {}
    order = []
    for position, clip in enumerate(clips):
        turn = turns[clip.cluster] = turns.get(clip.cluster, -1) + 1
        order.append((turn, position))
    return [clips[position] for position in sorted(position for _, position in sorted(order)[:n])]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
