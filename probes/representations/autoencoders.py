"""The encoders of Table 1's autoencoders as representations: the layer each adapter's `features` returns.

The paper takes "the layer with the highest number of output channels, before the last linear layer"; where that
leaves a choice, the adapter's `features` says what was chosen. Clips are folded to mono first; stereo systems get
the mono clip twice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.store.fingerprint import code_digest
from probes.representations.user import AutoencoderFeatures


class NamedFeatures(AutoencoderFeatures):
    """`AutoencoderFeatures` of a registered system that has a row of its own.

    Args:
        name: of the system, and of the row.
        device: where it runs.
        options: passed to the system.

    Raises:
        WeightsNotFoundError: weights are missing; says how to get them.
        ImportError: the system's library is missing.
    """

    def __init__(self, name: str, device: str = "cpu", **options: Any) -> None:
        super().__init__(name, device=device, **options)
        # The adapter is found through the registry, so no import leads to its code: it is named here instead.
        code = code_digest(AUTOENCODERS.target(name).partition(":")[0])
        self.spec = replace(self.spec, name=name, options=self.spec.options | {"code": code})


musika = partial(NamedFeatures, "musika")
mousai_v2 = partial(NamedFeatures, "mousai-v2")
mousai_v3 = partial(NamedFeatures, "mousai-v3")
dac_44khz = partial(NamedFeatures, "dac-44khz")
codicodec = partial(NamedFeatures, "codicodec")
stable_audio_vae = partial(NamedFeatures, "stable-audio-vae")
ace_step_vae = partial(NamedFeatures, "ace-step-vae")
ear_vae = partial(NamedFeatures, "ear-vae")
same_s = partial(NamedFeatures, "same-s")
same_l = partial(NamedFeatures, "same-l")
kvae_audio = partial(NamedFeatures, "kvae-audio")
encodec_48khz = partial(NamedFeatures, "encodec-48khz")
mimi = partial(NamedFeatures, "mimi")
snac_44khz = partial(NamedFeatures, "snac-44khz")
xcodec2 = partial(NamedFeatures, "xcodec2")
