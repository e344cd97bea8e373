"""Options of `m2l encode`, `decode` and `reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from m2l.audio import FORMATS
from m2l.cli.common import CHECKPOINT_HELP, path_of, seconds, whole


def _checkpoint(default: str) -> Parameter:
    text = f"{CHECKPOINT_HELP} (default: {default})"
    return Parameter(converter=path_of("--checkpoint"), metavar="NAME", help=text, show_default=False)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Options of all three commands."""

    command: ClassVar[str]
    output: Annotated[
        str,
        Parameter(name=("--output", "-o"), converter=path_of("--output"), metavar="OUT",
                  help="output file; a folder if IN is a folder or several files"),
    ]  # fmt: skip
    checkpoint: Annotated[str | None, _checkpoint("mini")] = "mini"
    device: Annotated[
        str | None,
        Parameter(metavar="NAME", help="cpu, cuda, cuda:1 or mps (default: cuda if available, else cpu)"),
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Parameter(metavar="NAME", help="precision of the network")
    ] = "float32"
    window: Annotated[
        float | None,
        Parameter(converter=seconds, metavar="SECONDS",
                  help="audio that the network processes at once; less needs less memory (default: 30)"),
    ] = None  # fmt: skip
    overwrite: Annotated[
        bool, Parameter(help="redo finished outputs, and replace files in OUT that m2l did not make")
    ] = False
    json: Annotated[bool, Parameter(help="print one JSON object with the outcome of each file")] = False
    quiet: Annotated[bool, Parameter(help="print only errors on stderr, no progress")] = False


@dataclass(frozen=True, kw_only=True)
class FromAudio(Conversion):
    """Options of commands that read audio."""

    incomplete: Annotated[
        bool, Parameter(help="process truncated audio as far as it can be read, instead of refusing it")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ToAudio(Conversion):
    """Options of commands that write audio."""

    n_steps: Annotated[int, Parameter(converter=whole(1, 1000), metavar="N", help="denoising steps")] = 1
    seed: Annotated[
        int, Parameter(converter=whole(0, 2**63 - 1), metavar="N", help="random seed (decoding noise)")
    ] = 0
    format: Annotated[
        str,
        Parameter(choices=[suffix[1:] for suffix in FORMATS], metavar="SUFFIX",
                  help="format of audio files written into a folder"),
    ] = "wav"  # fmt: skip
    subtype: Annotated[
        str | None, Parameter(metavar="NAME", help="sample format, such as PCM_16 (default: FLOAT in WAV)")
    ] = None


class Encode(FromAudio):
    """Options of `m2l encode`."""

    command = "encode"


@dataclass(frozen=True, kw_only=True)
class Decode(ToAudio):
    """Options of `m2l decode`."""

    command = "decode"
    checkpoint: Annotated[str | None, _checkpoint("the one that the latents file names")] = None
    force: Annotated[bool, Parameter(help="decode with another checkpoint than the one that encoded")] = False


class Reconstruct(ToAudio, FromAudio):
    """Options of `m2l reconstruct`."""

    command = "reconstruct"
