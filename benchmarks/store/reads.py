"""Recording which files a user's code reads: an audit hook on `open` and listings, and hooks on libraries written in C.

A class may open weights that it declares nowhere. What is read while it is imported, constructed and used is
therefore recorded, and becomes part of the content key. Files that the code itself writes, that lie in installed
packages, or that are gone afterward do not count. What a started program reads cannot be seen: see `Reads.opaque`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from benchmarks.user_code import is_installed, is_own_file
from m2l.io.digest import known_sha256

#: Frames that read source code, which is digested as code, or our own store.
_READERS_OF_CODE = ("<frozen importlib", "<frozen zipimport", "<frozen runpy")
_STORE = os.path.dirname(os.path.abspath(__file__))
_NOT_DATA = ("linecache.py", "tokenize.py", "inspect.py", "pkgutil.py", "traceback.py")
_METADATA = os.path.join("importlib", "metadata")
_NOT_FILES = ("/proc/", "/sys/", "/dev/", "/etc/")
_LIBRARY_CACHES = (".pyc", ".nbi", ".nbc")
_SECRETS = frozenset({"token", "stored_tokens", ".netrc"})
#: Programs that libraries start to look around, and compilers, whose input is code.
_HARMLESS = frozenset({
    "ldconfig", "gcc", "g++", "cc", "c++", "clang", "nvcc", "ptxas", "ld",
    "objdump", "uname", "lscpu", "nvidia-smi", "git", "file", "lsb_release",
})  # fmt: skip
_FOLDERS = frozenset({"os.listdir", "os.scandir"})
_PROGRAMS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"})
_EVENTS = frozenset({"open", "ctypes.dlopen", "sqlite3.connect", *_FOLDERS, *_PROGRAMS})
_WRITES = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Reads:
    """What was read in one recording.

    Attributes:
        files: paths, and whether each existed when it was opened (code may look for one that comes later).
        folders: folders whose entries were listed.
        written: paths that the code opened for writing.
        code: Python files that were imported.
        opaque: programs that were started, whose own reading is not seen.
        started: time of the start.
    """

    def __init__(self) -> None:
        self.files: dict[str, bool] = {}
        self.folders: set[str] = set()
        self.written: set[str] = set()
        self.code: set[str] = set()
        self.opaque: set[str] = set()
        self.started = time.time()

    def add(self, other: Reads) -> None:
        """Add what another recording saw."""
        self.files = {**other.files, **self.files}
        for name in ("folders", "written", "code", "opaque"):
            getattr(self, name).update(getattr(other, name))

    def kept(self) -> list[str]:
        """Paths that count, sorted: not written by the code, and not changed or deleted since."""
        found = []
        for path, existed in {**dict.fromkeys(self.folders, True), **self.files}.items():
            if path in self.written or (existed and self._changed_meanwhile(path)):
                continue
            found.append(path)
        return sorted(found)

    def _changed_meanwhile(self, path: str) -> bool:
        try:
            return self.started < os.stat(path).st_mtime <= time.time()
        except OSError:
            return True


_active: list[Reads] = []
#: Reads by the user's file that did them: a module is imported once, and a loader may remember what it read.
_by_file: dict[str, Reads] = {}
_installed = False


@contextlib.contextmanager
def recording() -> Iterator[Reads]:
    """Record what any thread of this process reads inside the block."""
    _install()
    found = Reads()
    _active.append(found)
    try:
        yield found
    finally:
        _active.remove(found)


@contextlib.contextmanager
def not_recording() -> Iterator[None]:
    """Record nothing inside the block: what is read there is in the key already."""
    before = list(_active)
    _active.clear()
    try:
        yield
    finally:
        _active.extend(before)


def read_before(files: Iterable[str]) -> Reads:
    """What the code in these files, and in what they imported, has read earlier in this process."""
    found = Reads()
    seen: set[str] = set()
    queue = list(files)
    while queue:
        file = os.path.realpath(queue.pop())
        if file in seen:
            continue
        seen.add(file)
        if file in _by_file:
            found.add(_by_file[file])
            queue += _by_file[file].code
    return found


def forget(files: Iterable[str]) -> None:
    """Forget what files have read, when they are imported again."""
    for file in files:
        _by_file.pop(os.path.realpath(file), None)


def entries(paths: Iterable[str], base: Path | None) -> list[list[str]]:
    """`[name, digest]` of each path, in the order of the paths; names hold none of this machine's folders."""
    return [[_name(path, base), content_digest(path)] for path in paths]


def content_digest(path: str) -> str:
    """sha256 of a file, or of a folder's list of names; "absent" if it does not exist."""
    try:
        if os.path.isdir(path):
            names = [n for n in sorted(os.listdir(path)) if not n.startswith(".") and n != "__pycache__"]
            return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
        return known_sha256(path)
    except OSError:
        return "absent"


def _name(path: str, base: Path | None) -> str:
    for folder in (base, Path.cwd()):
        if folder is not None and path.startswith(str(folder) + os.sep):
            return Path(path).relative_to(folder).as_posix()
    return Path(path).name


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _active or event not in _EVENTS:
        return
    with contextlib.suppress(Exception):  # an audit hook that raises would stop what the user does
        _seen(event, args, sys._getframe(1))


def _seen(event: str, args: tuple[Any, ...], frame: FrameType) -> None:
    caller = frame.f_code.co_filename
    if _by_a_library(frame):
        return
    if event in _PROGRAMS:
        _program(event, args, frame)
        return
    path = _path(args[0])
    if path is None:
        return
    if caller.startswith(_READERS_OF_CODE) and (event != "open" or path.endswith((".py", ".pyc"))):
        if event == "open":  # not a file of data that a module's loader reads
            _code(path, frame)
        return
    if os.path.basename(caller) in _NOT_DATA or os.path.dirname(caller) == _STORE or not _counts(path):
        return
    if event in _FOLDERS:
        _tell(frame, lambda reads: reads.folders.add(path))
    elif event == "open" and isinstance(args[2], int) and args[2] & _WRITES:
        _tell(frame, lambda reads: reads.written.add(path))
    elif event == "open" or os.path.isfile(path):
        add_file(path, frame)


def _by_a_library(frame: FrameType | None) -> bool:
    """Whether a library reads for itself, while it is imported or looks for plugins: once per process, whoever asks."""
    while frame is not None and not is_own_file(frame.f_code.co_filename):
        name = frame.f_code.co_filename
        if _METADATA in name or (frame.f_code.co_name == "<module>" and not name.startswith("<")):
            return True
        frame = frame.f_back
    return False


def add_file(path: str, frame: FrameType | None = None) -> None:
    """Note that a file is opened for reading."""
    existed = os.path.exists(path)
    if existed and not (os.path.isfile(path) or os.path.isdir(path)):
        return  # a pipe or a device
    _tell(frame or sys._getframe(1), lambda reads: reads.files.setdefault(path, existed))


def _tell(frame: FrameType | None, note: Callable[[Reads], Any]) -> None:
    for reads in _active:
        note(reads)
    while frame is not None:
        if is_own_file(frame.f_code.co_filename):
            note(_by_file.setdefault(os.path.realpath(frame.f_code.co_filename), Reads()))
        frame = frame.f_back


def _path(value: Any) -> str | None:
    if not isinstance(value, (str, bytes, os.PathLike)):
        return None  # a file descriptor, or None for the current folder
    path = os.path.abspath(os.fsdecode(value))
    return path


def _counts(path: str) -> bool:
    name = os.path.basename(path)
    if path.startswith(_NOT_FILES) or path.endswith(_LIBRARY_CACHES) or name in _SECRETS:
        return False
    # Data within an installed package counts only where that package brings the class itself.
    return not is_installed(path) or is_own_file(path)


def _code(path: str, frame: FrameType) -> None:
    if path.endswith(".pyc"):
        try:
            path = importlib.util.source_from_cache(path)
        except ValueError:
            return
    if path.endswith(".py") and is_own_file(path) and os.path.isfile(path):
        real = os.path.realpath(path)
        _tell(frame, lambda reads: reads.code.add(real))


def _program(event: str, args: tuple[Any, ...], frame: FrameType) -> None:
    """Files named in a command line are read by it; nothing else that it reads is known."""
    words = _words(event, args)
    program = os.path.basename(words[0]) if words else "a process"
    if program in _HARMLESS:
        return
    _tell(frame, lambda reads: reads.opaque.add(program))
    for word in words:
        path = os.path.abspath(word.partition("=")[2] if word.startswith("-") else word)
        if os.path.isfile(path) and not path.startswith(("/usr/", "/bin/", *_NOT_FILES)):
            add_file(path, frame)
    found = shutil.which(words[0]) if words else None
    if found and not found.startswith(("/usr/bin/", "/bin/", sys.prefix)):
        add_file(os.path.abspath(found), frame)


def _words(event: str, args: tuple[Any, ...]) -> list[str]:
    if event == "os.fork":
        return []
    value = args[1] if len(args) > 1 and event != "os.system" else args[0]
    if event == "os.spawn":
        value = args[2]
    if isinstance(value, (str, bytes)):
        value = [os.fsdecode(value)]
    words = [os.fsdecode(word) for word in value]
    if len(words) == 3 and words[1] == "-c" and os.path.basename(words[0]) in ("sh", "bash"):
        words = words[2:]
    if len(words) == 1:
        with contextlib.suppress(ValueError):
            words = shlex.split(words[0])
    return words


# -- libraries that open files outside Python


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    sys.addaudithook(_hook)
    for name in _NATIVE:
        if name in sys.modules:
            _NATIVE[name](sys.modules[name])
    sys.meta_path.insert(0, _AfterImport())


def _noting(function: Callable[..., Any], position: int, siblings: bool = False) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        given = args[position] if len(args) > position else next(iter(options.values()), None)
        if _active and (path := _path(given)) is not None and _counts(path):
            add_file(path, sys._getframe(1))
            if siblings:  # a model may keep its weights beside it: model.onnx, model.onnx.data
                for other in Path(path).parent.glob(Path(path).stem + "*"):
                    add_file(str(other), sys._getframe(1))
        return function(*args, **options)

    return call


def _patch_safetensors(module: ModuleType) -> None:
    original = module.safe_open
    wrapped = _noting(original, 0)
    for other in list(sys.modules.values()):  # those that took it by name
        if getattr(other, "__dict__", {}).get("safe_open") is original:
            other.safe_open = wrapped  # type: ignore[attr-defined]


def _patch_init(name: str, siblings: bool = False) -> Callable[[ModuleType], None]:
    def patch(module: ModuleType) -> None:
        kind = getattr(module, name, None)
        if kind is not None:
            kind.__init__ = _noting(kind.__init__, 1, siblings)

    return patch


def _patch_function(name: str) -> Callable[[ModuleType], None]:
    def patch(module: ModuleType) -> None:
        if callable(getattr(module, name, None)):
            setattr(module, name, _noting(getattr(module, name), 0))

    return patch


_NATIVE: dict[str, Callable[[ModuleType], None]] = {
    "safetensors": _patch_safetensors,
    "h5py": _patch_init("File"),
    "onnxruntime": _patch_init("InferenceSession", siblings=True),
    "soundfile": _patch_init("SoundFile"),
    "torchaudio": _patch_function("load"),
    "torch.jit": _patch_function("load"),
    "torch.export": _patch_function("load"),
}


class _AfterImport(importlib.abc.MetaPathFinder):
    """Patches a library of `_NATIVE` as soon as it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _NATIVE:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((s for f in finders if (s := f.find_spec(name, path, target)) is not None), None)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            execute = spec.loader.exec_module

            def then(module: ModuleType) -> None:
                execute(module)
                _NATIVE[name](module)

            spec.loader.exec_module = then  # type: ignore[method-assign]
        return spec
