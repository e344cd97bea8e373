"""A user's code: whose file a frame is in, how its errors are reported, and where its output goes.

Nothing here computes a number.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

FIRST_PARTY = ("m2l", "benchmarks", "probes")
_ROOT = Path(__file__).resolve().parent.parent

#: Folders (or files) of installed packages that bring a class which is being measured.
_own_packages: set[str] = set()

#: Texts of failures of the machine rather than the code; `MemoryError` and `OSError` are known by their type.
_SYSTEM_WORDS = ("out of memory", "allocate memory", "not enough memory", "cuda error", "signal sigkill")


class UserCodeError(ValueError):
    """An exception of a user's own code; the message says file, line, function, clip and exception.

    Attributes:
        missing: a module, a file or memory is missing, so the exit code is 3; else it is 2.
        details: the traceback.
    """

    def __init__(self, message: str, missing: bool = False, details: str = "") -> None:
        super().__init__(message)
        self.missing, self.details = missing, details

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.missing, self.details)


class ClashError(ImportError):
    """A module of the user's has the name of one of this project's packages."""


def is_first_party(module: str) -> bool:
    """Whether a module belongs to this project."""
    return module.partition(".")[0] in FIRST_PARTY


def add_own_package(origin: Path) -> None:
    """Take an installed package or module (its first file) for the user's: it brings what is measured."""
    if is_installed(str(origin)) and not str(origin).startswith(_standard_library()):
        _own_packages.add(f"{origin.parent}{os.sep}" if origin.name == "__init__.py" else str(origin))
        is_own_file.cache_clear()


@lru_cache(maxsize=4096)
def is_own_file(filename: str) -> bool:
    """Whether a file is the user's: of no installed package, not Python's own, not this project's."""
    if filename.startswith("<"):
        return False
    path = os.path.realpath(filename)
    if any(path.startswith(folder) for folder in _own_packages):
        return True
    return not path.startswith(_foreign()) and not is_installed(path)


def is_installed(path: str) -> bool:
    """Whether a file lies in a folder of installed packages, or in Python's own library."""
    parts = Path(path).parts
    return "site-packages" in parts or "dist-packages" in parts or path.startswith(_standard_library())


@lru_cache(maxsize=1)
def _standard_library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({os.path.realpath(paths[name]) + os.sep for name in ("stdlib", "platstdlib")})


@lru_cache(maxsize=1)
def _foreign() -> tuple[str, ...]:
    return tuple(str(_ROOT / name) + os.sep for name in FIRST_PARTY)


def short_name(filename: str) -> str:
    """A file's path below the current folder, else below the folder of its package; no machine's folders."""
    path = Path(filename).resolve()
    with contextlib.suppress(ValueError, OSError):
        return path.relative_to(Path.cwd()).as_posix()
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return path.relative_to(top).as_posix()


def place_of(error: BaseException) -> str | None:
    """`FILE:LINE in FUNCTION` of the innermost frame in a user's file; None if there is none."""
    if isinstance(error, SyntaxError) and error.filename and is_own_file(error.filename):
        return f"{short_name(error.filename)}:{error.lineno}"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if is_own_file(frame.f_code.co_filename):
            name = frame.f_code.co_name
            where = "" if name == "<module>" else f" in {name}"
            return f"{short_name(frame.f_code.co_filename)}:{line}{where}"
    return None


def raised_by_user(error: BaseException) -> bool:
    """Whether the innermost frame is in a user's file: a `raise` there, not a library's complaint."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and is_own_file(frames[-1][0].f_code.co_filename)


def describe(error: BaseException, clip: str | None = None) -> str:
    """One line: `my_codec.py:12 in encode, clip synthetic-000003: KeyError: 'latents'`."""
    if isinstance(error, UserCodeError):
        return str(error)
    place = place_of(error)
    where = ", ".join(part for part in (place, clip and f"clip {clip}") if part)
    text = f"{type(error).__name__}: {_message(error)}".removesuffix(": ")
    return f"{where}: {text}" if where else text


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the code called sys.exit({error.code!r})"
    if isinstance(error, SyntaxError):
        return str(error.msg)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    head = " ".join(lines[:2]) if lines and lines[0].endswith(":") else (lines or [""])[0]
    if isinstance(error, ModuleNotFoundError) and is_first_party(error.name or ""):
        return f"{head}. {clash_hint(str(error.name).partition('.')[0])}"
    return head if len(head) <= 300 else head[:297] + "..."


def clash_hint(package: str) -> str:
    """What to do when a user's module has the name of one of our packages."""
    return (
        f"The name {package!r} belongs to the installed benchmark, so a folder {package}/ of your own cannot be "
        "imported here. Rename your folder, or run your code in a process of its own: "
        "m2l-bench compare --command 'mine=python codec.py {input} {output}'"
    )


def check_clash(folder: Path) -> None:
    """Refuse to put a folder on the path that would hide one of our packages from worker processes.

    Raises:
        ClashError: it holds a module `benchmarks`, `probes` or `m2l` that is not ours.
    """
    if folder.resolve() == _ROOT:
        return
    for package in FIRST_PARTY:
        if (folder / package / "__init__.py").is_file() or (folder / f"{package}.py").is_file():
            raise ClashError(f"{folder} holds a Python package {package!r}. {clash_hint(package)}")


def is_system_failure(error: BaseException) -> bool:
    """Whether an exception says that the machine failed (memory, disk, device): nothing to keep as a result."""
    if isinstance(error, (MemoryError, OSError)) or "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _SYSTEM_WORDS)


def user_error(error: BaseException, clip: str | None = None) -> UserCodeError:
    """An exception of a user's code as the error that is shown."""
    if isinstance(error, UserCodeError):
        return error
    if isinstance(error, ClashError):
        return UserCodeError(str(error), missing=True)
    details = "".join(traceback.format_exception(error))
    missing = isinstance(error, ImportError) or is_system_failure(error)
    return UserCodeError(describe(error, clip), missing, details)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """What is printed inside goes to stderr, also from C code and programs: stdout is for results."""
    with contextlib.suppress(ValueError, OSError):
        sys.stdout.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # closed from the start
        kept = -1
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for stream in (sys.stdout, sys.__stdout__):  # what was written past the redirection
            with contextlib.suppress(ValueError, OSError, AttributeError):
                stream.flush()  # type: ignore[union-attr]
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


def reporting(command: Callable[[], Any], verbose: bool) -> Any:
    """Call a command; an error in a user's code becomes a line (if `verbose`, its traceback too) and 2 or 3."""
    try:
        return command()
    except (Exception, SystemExit) as error:
        if not isinstance(error, UserCodeError) and place_of(error) is None:
            raise  # not of a user's class, data set or task
        found = user_error(error)
        if found.details and verbose:
            print(found.details.rstrip(), file=sys.stderr)
        print(f"m2l-bench: {found}", file=sys.stderr)
        if found.details and not verbose:
            print("(-v shows the traceback)", file=sys.stderr)
        return 3 if found.missing else 2
