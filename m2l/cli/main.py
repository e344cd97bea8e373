"""`m2l encode | decode | reconstruct | info | train | export`: arguments, exit codes, and nothing else.

Results go to stdout, progress and errors to stderr. Exit codes: 0 fine, 1 some file failed, 2 usage, 3 data or
weights missing or unreadable, or stdout cannot be written, 130 interrupted. The work is in `m2l.cli.convert`,
`m2l.cli.info` and `m2l.cli.train`, imported when a command runs, so that `m2l --help` does not load torch.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from m2l.cli.errors import INTERRUPTED, MISSING, USAGE, MissingError, UsageError, fail, mute
from m2l.processes import interrupt_on_sigterm

_CHECKPOINT_HELP = (
    "shipped checkpoint's name, folder, .safetensors or published .pt file, or SonyCSLParis/music2latent; "
    "random:PRESET or random:PRESET:SEED for untrained weights (for tests)"
)

#: Options and arguments that name files or folders, and how their users know them.
_PATHS = {
    "inputs": "IN",
    "targets": "CHECKPOINT|FILE",
    "source": "RUN",
    "output": "--output",
    "checkpoint": "--checkpoint",
    "run": "--run",
    "init": "--init",
    "data": "--data",
    "validation": "--validation",
    "metrics": "--metrics",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    _prepare_streams()
    try:
        with interrupt_on_sigterm():
            code = _parse_and_run(argv)
            sys.stdout.flush()
            return code
    except UsageError as error:
        return fail(error, USAGE)
    except MissingError as error:
        return fail(error, MISSING)
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") not in ("", "0"):
            return INTERRUPTED  # torchrun ends all processes of a run; one of them speaks
        return fail("interrupted; the same command resumes the work", INTERRUPTED)
    except BrokenPipeError:  # `m2l … | head`: its reader has all that it wanted
        mute(sys.stdout)
        return MISSING
    except OSError as error:
        if error.filename is None and error.strerror == os.strerror(
            error.errno or 0
        ):  # no file's: a stream's
            mute(sys.stdout)
            return fail(f"cannot write to stdout: {error.strerror}", MISSING)
        return fail(error, MISSING)


def _prepare_streams() -> None:
    # A closed stream is None in Python, and print() would then take the other one.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # names need not be valid Unicode, nor fit the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parse_and_run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed its message
        return int(stop.code or 0)
    for name, shown in _PATHS.items():
        value = getattr(args, name, None)
        if isinstance(value, list):
            setattr(args, name, [_path(one, shown) for one in value])
        elif value is not None:
            setattr(args, name, _path(value, shown))
    return _run(args)


def _path(text: str, shown: str) -> str:
    """The path with `~` expanded, which shells leave alone in `--output=~/x`.

    Raises:
        UsageError: for an empty path, which would stand for the current folder, or a home that is not known.
    """
    if not text.strip() or (shown == "--data" and text.startswith("=")):
        raise UsageError(f"{shown} is empty ({text!r}); the current folder is called .")
    if "\0" in text:
        raise UsageError(f"{shown} {text!r} holds a zero byte; no file has such a name")
    if not text.startswith("~") or os.path.lexists(text):
        return text
    expanded = os.path.expanduser(text)
    if expanded == text and (text == "~" or "/" in text):
        raise UsageError(
            f"{shown} {text!r}: the home folder is not known; write the path in full, or ./{text}"
        )
    return expanded


def _run(args: argparse.Namespace) -> int:
    if args.command == "info":
        from m2l.cli.info import run_info

        return run_info(args)
    if args.command in ("train", "export"):
        from m2l.cli import train as cli_train

        if args.command == "train" and os.environ.get("WORLD_SIZE", "1") == "1":  # else one of several speaks
            _check_train(args)
        return cli_train.run_train(args) if args.command == "train" else cli_train.run_export(args)
    from m2l.cli.convert import run_files

    return run_files(args)


def _check_train(args: argparse.Namespace) -> None:
    """Refuse what other mistakes would be blamed for.

    Raises:
        UsageError: for a preset or device that does not exist.
    """
    from m2l.cli.common import check_device
    from m2l.config import ConfigError, create_config

    try:
        create_config(args.preset)
    except ConfigError as error:
        raise UsageError(f"--preset: {error}") from error
    if args.device:
        check_device(args.device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l",
        description="Music2Latent: music to 64-dimensional latents at 11 Hz, and back in one step.",
        epilog="A folder run that was stopped goes on where it was: run the same command again.",
    )
    from m2l import __version__

    parser.add_argument("--version", action="version", version=f"m2l {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    encode = commands.add_parser("encode", help="audio files to latents files")
    _add_files(encode, "audio files or folders of them", "latents file (.safetensors) or folder")
    _add_model(encode, required=True)

    decode = commands.add_parser("decode", help="latents files back to audio files")
    _add_files(decode, "latents files or folders of them", "audio file or folder")
    _add_model(decode, required=False)
    _add_sampling(decode)
    decode.add_argument(
        "--force", action="store_true", help="decode with a checkpoint other than the one that encoded"
    )

    reconstruct = commands.add_parser("reconstruct", help="audio files through the model and back")
    _add_files(reconstruct, "audio files or folders of them", "audio file or folder")
    _add_model(reconstruct, required=True)
    _add_sampling(reconstruct)

    for command in (encode, reconstruct):
        command.add_argument(
            "--incomplete",
            action="store_true",
            help="read what is there of audio that is cut short, and count it, instead of refusing it",
        )

    info = commands.add_parser("info", help="what a checkpoint, latents file or audio file is")
    info.add_argument("targets", nargs="+", metavar="CHECKPOINT|FILE", help=_CHECKPOINT_HELP)
    info.add_argument("--json", action="store_true", help="print one JSON object")

    from m2l.cli.train import add_export, add_train

    add_train(commands)
    add_export(commands)
    return parser


def _add_files(parser: argparse.ArgumentParser, inputs: str, output: str) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help=inputs)
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help=f"{output}; a folder if IN is one or several"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object with the fate of each file"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr, only errors")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make everything again, and replace files in OUT that m2l did not make",
    )


def _add_model(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--checkpoint",
        "--model",
        metavar="NAME",
        default="mini" if required else None,
        help=_CHECKPOINT_HELP + ("; default: mini" if required else "; default: what the latents file names"),
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: cuda if there is one, else cpu")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision of the network",
    )
    parser.add_argument(
        "--window",
        type=_positive,
        metavar="SECONDS",
        help="audio seen by the network at once; less needs less memory (default: 30)",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    from m2l.audio import FORMATS

    parser.add_argument("--n-steps", type=_count, default=1, metavar="N", help="denoising steps (default: 1)")
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of the decoding noise (default: 0)"
    )
    parser.add_argument(
        "--format",
        choices=[suffix[1:] for suffix in FORMATS],
        default="wav",
        metavar="SUFFIX",
        help=f"of audio written into a folder: {' '.join(s[1:] for s in FORMATS)} (default: wav)",
    )
    parser.add_argument(
        "--subtype", metavar="NAME", help="sample format, such as PCM_16 (default: FLOAT in WAV)"
    )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text[:40]!r}") from None


def _count(text: str) -> int:
    value = _whole(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be 1 … 1000, not {text}")
    return value


def _seed(text: str) -> int:
    value = _whole(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must be 0 … 2^63 - 1, not {text}")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text[:40]!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
