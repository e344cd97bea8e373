"""Write a commented template of an autoencoder or a metric, with a test that passes as written."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from m2l.io.atomic import write_atomic

TEMPLATES = Path(__file__).resolve().parent
#: Kind of template -> the name that stands for the user's in it.
PLACEHOLDERS = {"autoencoder": "my_codec", "metric": "my_metric"}


def class_name(name: str) -> str:
    """`my_codec` -> `MyCodec`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def write_template(kind: str, name: str, folder: Path, *, replace: bool = False) -> tuple[Path, Path]:
    """Write `NAME.py` and `test_NAME.py` into a folder.

    Args:
        kind: a key of `PLACEHOLDERS`.
        name: name of the module; a class is named by the same words (`my_codec`: `MyCodec`).
        folder: folder to write to; created if it does not exist.
        replace: whether to replace files that exist.

    Returns:
        The two paths.

    Raises:
        ValueError: the name is not a module name, or is the name of an installed module.
        FileExistsError: a file exists, and `replace` is False.
    """
    placeholder = PLACEHOLDERS[kind]
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name) or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} cannot be a module: use small letters, digits and underscores, as in {placeholder!r}"
        )
    code, test = folder / f"{name}.py", folder / f"test_{name}.py"
    if name in sys.stdlib_module_names or _belongs_elsewhere(name, code):
        raise ValueError(f"there is an installed module {name!r}: choose another name")
    for path in (code, test):
        if path.exists() and not replace:
            raise FileExistsError(f"{path} already exists (--overwrite replaces it)")
    for template, path in ((f"{kind}.py", code), (f"test_{kind}.py", test)):
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        text = text.replace(placeholder, name).replace(class_name(placeholder), class_name(name))
        write_atomic(path, text)
    return code, test


def _belongs_elsewhere(name: str, code: Path) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    if found is None:
        return False
    return found.origin is None or Path(found.origin).resolve() != code.resolve()
