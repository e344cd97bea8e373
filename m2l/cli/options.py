"""Options of `m2l encode`, `decode` and `reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cyclopts import Parameter

from m2l.cli.common import CHECKPOINT_HELP, Dtype, Name, option, path, seconds
from m2l.cli.plain import whole
from m2l.io.sound import FORMATS

_Checkpoint = Annotated[str | None, path("--checkpoint", "NAME", show_default=False)]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Options of all three commands."""

    command: ClassVar[str]
    output: Annotated[
        str, path("--output", "OUT", alias="-o", help="output file; a folder if IN is a folder or several files")
    ]
    checkpoint: _Checkpoint = option("mini", f"{CHECKPOINT_HELP} (default: mini)")
    device: Name = option(None, "cpu, cuda, cuda:1 or mps (default: cuda if available, else cpu)")
    dtype: Dtype = option("float32", "precision of the network")
    window: Annotated[float | None, Parameter(converter=seconds, metavar="SECONDS")] = option(
        None, "audio that the network processes at once; less needs less memory (default: 30)"
    )
    overwrite: bool = option(False, "redo finished outputs, and replace files in OUT that m2l did not make")
    json: bool = option(False, "print one JSON object with the outcome of each file")
    quiet: bool = option(False, "print only errors on stderr, no progress")
    verbose: Annotated[bool, Parameter(alias="-v")] = option(False, "print tracebacks of unexpected errors")


@dataclass(frozen=True, kw_only=True)
class FromAudio(Conversion):
    """Options of commands that read audio."""

    incomplete: bool = option(False, "process truncated audio as far as it can be read, instead of refusing it")


@dataclass(frozen=True, kw_only=True)
class ToAudio(Conversion):
    """Options of commands that write audio."""

    n_steps: Annotated[int, Parameter(converter=whole(1, 1000), metavar="N")] = option(1, "denoising steps")
    seed: Annotated[int, Parameter(converter=whole(0, 2**63 - 1), metavar="N")] = option(
        0, "random seed (decoding noise)"
    )
    format: Annotated[str, Parameter(choices=[suffix[1:] for suffix in FORMATS], metavar="SUFFIX")] = option(
        "wav", "format of audio files written into a folder"
    )
    subtype: Name = option(None, "sample format, such as PCM_16 (default: FLOAT in WAV)")


class Encode(FromAudio):
    """Options of `m2l encode`."""

    command = "encode"


@dataclass(frozen=True, kw_only=True)
class Decode(ToAudio):
    """Options of `m2l decode`."""

    command = "decode"
    checkpoint: _Checkpoint = option(None, f"{CHECKPOINT_HELP} (default: the one that the latents file names)")
    force: bool = option(False, "decode with another checkpoint than the one that encoded")


class Reconstruct(ToAudio, FromAudio):
    """Options of `m2l reconstruct`."""

    command = "reconstruct"
