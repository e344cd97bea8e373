"""`m2l-bench latents`: statistics of an autoencoder's latents."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.cli.options import Json, Limit, Quiet
from benchmarks.errors import OK

#: Statistic -> what the table says of it.
ROWS = {
    "deviation": "standard deviation, mean of the dimensions",
    "deviation_min": "the smallest",
    "deviation_max": "the largest",
    "kl": "divergence from N(0, 1), nats per dimension",
    "effective_rank": "dimensions in use (effective rank)",
    "smoothness": "smoothness (1 constant, 0 white noise)",
    "gain_error": "error of half the amplitude, relative",
    "mix_error": "error of the mean of two clips, relative",
    "shift_error": "error of a delay of one latent, relative",
    "codebooks": "codebooks",
    "used": "codes in use, per codebook",
    "entropy": "entropy, bits per code",
    "perplexity": "codes in equal use that have this entropy",
}


def latents(
    name: str,
    /,
    *,
    data: Annotated[str, Parameter(metavar="SUITE|DIR")] = "synthetic",
    limit: Limit = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Statistics of an autoencoder's latents: spread, rank, smoothness, linearity; use and entropy of codes.

      m2l-bench latents music2latent-mini
      m2l-bench latents dac-44khz --data songs/

    Args:
        name: autoencoder (m2l-bench list autoencoders)
        data: suite, or folder of audio
    """
    from benchmarks.latents.measure import latent_statistics

    found = latent_statistics(name, data, limit=limit, quiet=quiet)
    if json:
        print(jsons.dumps({k: v if v == v else None for k, v in found.items()}, indent=2))
        return OK
    size = f"{found['dim']} {'codebooks' if found['kind'] == 'codes' else 'dimensions'}"
    print(f"{found['system']}: {size}, {found['clips']} clips of {Path(data).name}\n")
    print("| statistic | value |\n|---|--:|")
    for key, words in ROWS.items():
        if key in found:
            print(f"| {words} | {found[key]:.4g} |")
    return OK
