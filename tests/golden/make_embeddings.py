"""Regenerates `embeddings.npz`: embeddings by the original implementations on the synthetic weights.

Run where torchvggish 0.2 and laion-clap 1.1.7 import.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from laion_clap import clap_module
from laion_clap.clap_module.htsat import create_htsat_model
from synthetic_weights import clap_state, notes, published_listing, synthetic_weight
from torchvggish import torchvggish, vggish_input


def vggish() -> np.ndarray:
    """(3, 128) of 3 s at 16 kHz; PCA off, last ReLU removed, as frechet-audio-distance does."""
    network = torchvggish.VGG(torchvggish.make_layers(), postprocess=False)
    listing = published_listing()["VGGish"].items()
    state = {name: synthetic_weight(name, shape) for name, shape in listing if not name.startswith("pproc.")}
    network.load_state_dict(state)
    network.embeddings = torch.nn.Sequential(*list(network.embeddings.children())[:-1])
    return network(vggish_input.waveform_to_examples(notes(16000, 3.0), 16000)).numpy()


def clap(tower: str) -> np.ndarray:
    """(512,) of 10 s at 48 kHz."""
    folder = Path(clap_module.__path__[0])
    settings = json.loads((folder / "model_configs" / f"{tower}.json").read_text())["audio_cfg"]
    network = create_htsat_model(SimpleNamespace(**settings)).eval()
    state = clap_state(tower)
    own = network.state_dict()
    audio = {key.removeprefix("audio_branch."): v for key, v in state.items() if key.startswith("audio_branch.")}
    # Buffers that follow from the architecture stay as the original computes them.
    audio |= {key: own[key] for key in own if key.endswith(("attn_mask", "conv_real.weight", "conv_imag.weight"))}
    network.load_state_dict(audio, strict=True)
    features = network({"waveform": torch.from_numpy(notes(48000, 10.0))[None]}, device="cpu")["embedding"]
    hidden = torch.relu(
        torch.nn.functional.linear(features, state["audio_projection.0.weight"], state["audio_projection.0.bias"])
    )
    output = torch.nn.functional.linear(hidden, state["audio_projection.2.weight"], state["audio_projection.2.bias"])
    return torch.nn.functional.normalize(output, dim=-1)[0].numpy()


if __name__ == "__main__":
    with torch.no_grad():
        arrays = {"vggish": vggish(), "HTSAT-tiny": clap("HTSAT-tiny"), "HTSAT-base": clap("HTSAT-base")}
    np.savez_compressed(Path(__file__).with_name("embeddings.npz"), **arrays)
    print({name: (array.shape, float(np.abs(array).mean())) for name, array in arrays.items()})
