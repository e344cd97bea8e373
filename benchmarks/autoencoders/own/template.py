"""`m2l-bench new-autoencoder NAME`: a commented template of an autoencoder, with a test that passes as written."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import UsageError, check_folder
from m2l.io.atomic import write_atomic

TEMPLATES = Path(__file__).resolve().parent / "templates"


def main(argv: Sequence[str]) -> int:
    """Write the files; exit code 0, or 2 for a name that cannot be used or files that exist."""
    parser = argparse.ArgumentParser(prog="m2l-bench new-autoencoder", description=__doc__.split(": ", 1)[1])
    parser.add_argument("name", metavar="NAME", help="of the module, as in my_codec")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="where (here)")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    options = parser.parse_args(argv)

    check_folder("-o", options.output)
    try:
        paths = write_template(options.name, options.output, force=options.force)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from None
    print("\n".join(str(path) for path in paths))
    code, test = paths
    print(
        f"test it: pytest {test}\nmeasure it: m2l-bench compare {code}:{class_name(options.name)}",
        file=sys.stderr,
    )
    return 0


def class_name(name: str) -> str:
    """`my_codec` -> `MyCodec`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def write_template(name: str, folder: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write `NAME.py` and `test_NAME.py` into a folder.

    Args:
        name: of the module; the class is called by the same words (`my_codec`: `MyCodec`).
        folder: where; made if it is not there.
        force: whether to replace files that exist.

    Returns:
        The two paths.

    Raises:
        ValueError: the name is no module name, or the name of an installed module.
        FileExistsError: a file is there.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name) or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} cannot be a module: use small letters, digits and underscores, as in 'my_codec'"
        )
    code, test = folder / f"{name}.py", folder / f"test_{name}.py"
    if name in sys.stdlib_module_names or _belongs_elsewhere(name, code):
        raise ValueError(f"there is an installed module {name!r}: choose another name")
    for path in (code, test):
        if path.exists() and not force:
            raise FileExistsError(f"{path} is there already (--force replaces it)")
    for template, path in (("autoencoder.py", code), ("test_autoencoder.py", test)):
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        write_atomic(path, text.replace("my_codec", name).replace("MyCodec", class_name(name)))
    return code, test


def _belongs_elsewhere(name: str, code: Path) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    if found is None:
        return False
    return found.origin is None or Path(found.origin).resolve() != code.resolve()
