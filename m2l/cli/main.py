"""`m2l`: the list of commands, exit codes, and nothing else.

Results go to stdout, progress and errors to stderr. Exit codes: 0 fine, 1 some file failed, 2 usage, 3 data or
weights missing or unreadable, or stdout cannot be written, 130 interrupted. The commands are functions in
`m2l.cli.convert`, `m2l.cli.info` and `m2l.cli.train`, imported when they run: `m2l --help` does not load torch.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import CycloptsError, Parameter

from m2l import __version__
from m2l.cli.common import FINE, INTERRUPTED, MISSING, USAGE, MissingError, UsageError, fail, is_follower, mute
from m2l.cli.plain import new_app, usage_message
from m2l.processes import interrupt_on_sigterm

app = new_app(
    "m2l",
    "Music2Latent: music to 64-dimensional latents at about 11 Hz, and back in one step.\n\n"
    "An interrupted run resumes when the same command is run again. For completion in your shell, see "
    "m2l completion --help.",
    version=f"m2l {__version__}",
)
_TRAIN = """train a model, or resume a training run

Settings that are not given come from the preset's recipe; --dry-run prints them all. They are saved in RUN and must
not change when the run is resumed.

To train with several processes, put -- between torchrun's options and the module, or torchrun takes --run for its own:

    torchrun --nproc-per-node=8 -m -- m2l.cli train --run RUN ...
"""
_EXPORT = """write the averaged weights of a training run as a checkpoint, or a model as ONNX graphs

OUT receives config.json, model.safetensors, card.json and README.md, the card as a model hub shows it; every command
accepts it as --checkpoint. latent_scale is set to the standard deviation of the latents of crops of the run's data.

With --format onnx, OUT receives encoder.onnx and decoder.onnx, for any length and batch, of a run or of any checkpoint:

    m2l export mini --format onnx -o graphs
"""
for place, (name, module, text) in enumerate(
    (
        ("encode", "convert", "encode audio files to latents files (.safetensors)"),
        ("decode", "convert", "decode latents files to audio files"),
        ("reconstruct", "convert", "encode and decode audio files in one go"),
        ("info", "info", "describe checkpoints, latents files and audio files"),
        ("train", "train", _TRAIN),
        ("export", "train", _EXPORT),
    )
):
    app.command(f"m2l.cli.{module}:{name}", name=name, help=text, sort_key=place)


@app.command(sort_key=99)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="shell to complete in")] = "bash", /
) -> int:
    """print a shell completion script

    For bash, put this line into ~/.bashrc:

        eval "$(m2l completion bash)"
    """
    print(app.generate_completion(shell=shell))
    return FINE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    _prepare_streams()
    try:
        with interrupt_on_sigterm():
            code = _run(sys.argv[1:] if argv is None else list(argv))
            sys.stdout.flush()
            return code
    except CycloptsError as error:
        return fail(usage_message(error), USAGE)
    except UsageError as error:
        return fail(error, USAGE)
    except MissingError as error:
        return fail(error, MISSING)
    except KeyboardInterrupt:
        if is_follower():
            return INTERRUPTED  # torchrun ends all processes of a run; one of them speaks
        return fail("interrupted; the same command resumes the work", INTERRUPTED)
    except BrokenPipeError:  # `m2l … | head`: its reader has all that it wanted
        mute(sys.stdout)
        return MISSING
    except OSError as error:
        # An error without a file name that is the operating system's own comes from a stream.
        if error.filename is None and error.strerror == os.strerror(error.errno or 0):
            mute(sys.stdout)
            return fail(f"cannot write to stdout: {error.strerror}", MISSING)
        return fail(error, MISSING)


def _run(argv: list[str]) -> int:
    if not argv:
        raise UsageError(f"COMMAND is needed: {', '.join(name for name in app if not name.startswith('-'))}")
    command, bound, _ = app.parse_args(argv)
    return command(*bound.args, **bound.kwargs) or FINE  # type: ignore[no-any-return]


def _prepare_streams() -> None:
    # A closed stream is None in Python, and print() would then take the other one.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Names need not be valid Unicode, nor fit the terminal's encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
