"""`m2l-bench export-clips`, `new-autoencoder` and `new-metric`: for systems and metrics of your own."""

from __future__ import annotations

import json as jsons
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.cli.options import MACHINE, Json, Limit, Machine, SuiteName
from benchmarks.errors import FAILED, OK, UsageError, check_folder
from benchmarks.suite import load_suite

Folder = Annotated[Path, Parameter(name=("--output", "-o"), metavar="DIR")]
Replace = Annotated[bool, Parameter(name="--overwrite", help="replace files that exist")]


def export_clips(
    *,
    output: Folder,
    suite: SuiteName = "synthetic",
    limit: Limit = 0,
    overwrite: Replace = False,
    machine: Machine = MACHINE,
    json: Json = False,
) -> int:
    """Write a suite's clips as WAV files, for systems that run elsewhere.

    The files hold what every system is given: folded as the suite says, at the clip's own rate, as float32, without
    the clips that no system is given. Reconstructions under the same file names are measured with
    `m2l-bench compare --external NAME=DIR`.

    Args:
        output: folder to write the WAV files to
    """
    from benchmarks.compare.export import export_suite

    check_folder("-o", output)
    run, executor, store = machine.open(limit=limit)
    try:
        found = export_suite(load_suite(suite), run, executor, store, output, replace=overwrite)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from None
    if json:
        print(jsons.dumps(found, indent=2, sort_keys=True))
    else:
        print(f"{found['written']} clips written to {output}, {found['kept']} already there")
        for reason, count in found["left_out"].items():
            print(f"left out: {count} x {reason}")
        for cause in found["failed_units"]:
            print(f"failed: {cause}", file=sys.stderr)
    return FAILED if found["failed_units"] else OK


def new_autoencoder(name: str, /, *, output: Folder = Path(), overwrite: Replace = False) -> int:
    """Write a commented template of an autoencoder, with a test that passes as written.

    Args:
        name: name of the module, for example my_codec
        output: folder to write the two files to
    """
    return _write("autoencoder", name, output, overwrite)


def new_metric(name: str, /, *, output: Folder = Path(), overwrite: Replace = False) -> int:
    """Write a commented template of a metric, with a test that passes as written.

    Args:
        name: name of the module and of its function, for example my_metric
        output: folder to write the two files to
    """
    return _write("metric", name, output, overwrite)


def _write(kind: str, name: str, output: Path, overwrite: bool) -> int:
    """Write a template, and print the paths and the commands that use it."""
    from benchmarks.templates.write import class_name, write_template

    check_folder("-o", output)
    try:
        code, test = write_template(kind, name, output, replace=overwrite)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from None
    print(code, test, sep="\n")
    use = f"{code}:{class_name(name)}" if kind == "autoencoder" else f"music2latent-mini --metrics {code}:{name}"
    print(f"test it: pytest {test}\nmeasure it: m2l-bench compare {use}", file=sys.stderr)
    return OK
