"""Tasks by name: `create_task("tinysol-pitch").load()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.errors import UsageError
from benchmarks.registry import Registry, load_target

if TYPE_CHECKING:
    from probes.tasks.base import TaskData, TaskInfo

__all__ = ["TASKS", "Task", "create_task", "list_tasks"]


class Task(Protocol):
    """A task: what is known of it, and its data when asked."""

    info: TaskInfo

    def load(self) -> TaskData:
        """Read labels and splits, and check them; audio stays unread.

        Raises:
            DataNotFoundError: something is not on this machine; the message names it.
            TaskDataError: what is there is not what was published.
        """
        ...


TASKS = Registry("task", entry_point_group="m2l.tasks")
TASKS.register("magnatagatune", "probes.tasks.magnatagatune:MagnaTagATune")
TASKS.register("beatport", "probes.tasks.beatport:Beatport")
TASKS.register("tinysol-pitch", "probes.tasks.tinysol:TinySOLPitch")
TASKS.register("tinysol-instrument", "probes.tasks.tinysol:TinySOLInstrument")
TASKS.register("synthetic-tags", "probes.tasks.synthetic:SyntheticTags")
TASKS.register("synthetic-keys", "probes.tasks.synthetic:SyntheticKeys")
TASKS.register("synthetic-pitch", "probes.tasks.synthetic:SyntheticPitch")
TASKS.register("synthetic-instrument", "probes.tasks.synthetic:SyntheticInstrument")
TASKS.register("open-pitch", "probes.tasks.open_notes:OpenPitch")
TASKS.register("folder", "probes.tasks.folder:FolderTask")
TASKS.register("open-instrument", "probes.tasks.open_notes:OpenInstrument")
TASKS.register("giantsteps-key", "probes.tasks.published:GiantStepsKey")
TASKS.register("nsynth-pitch", "probes.tasks.published:NSynthPitch")
TASKS.register("nsynth-instrument", "probes.tasks.published:NSynthInstrument")
TASKS.register("gtzan", "probes.tasks.published:GTZAN")
TASKS.register("emo-arousal", "probes.tasks.published:EmoArousal")
TASKS.register("emo-valence", "probes.tasks.published:EmoValence")
TASKS.register("jamendo-top50", "probes.tasks.published:JamendoTop50")
TASKS.register("jamendo-instrument", "probes.tasks.published:JamendoInstrument")
TASKS.register("jamendo-mood", "probes.tasks.published:JamendoMood")


#: What stands before the path of a folder that is a task.
FOLDER = "folder:"


def create_task(name: str, **options: Any) -> Task:
    """Make a task; its data is read by `load`.

    Args:
        name: one of `list_tasks()`, `folder:PATH` of a folder or its table of labels, or `module:Class` of your own.
        **options: passed to the task's constructor.

    Raises:
        UnknownNameError: no such name; the message gives the nearest.
        UsageError: nothing before or after the colon.
    """
    if ":" in name and not all(name.partition(":")):
        raise UsageError(f"task {name!r}: something must stand on both sides of the colon")
    if name.startswith(FOLDER):
        name, options = "folder", {"path": name.removeprefix(FOLDER), "name": name, **options}
    factory = load_target(name) if ":" in name else TASKS.load(name)
    task: Task = factory(**options)
    return task


def list_tasks() -> list[str]:
    """Names of all tasks, without importing any of them."""
    return TASKS.names()
