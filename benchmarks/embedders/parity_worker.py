"""Runs frechet-audio-distance, and laion-clap by it, in the environment that `make parity` builds.

A program of its own that imports nothing of this project: those packages need other versions of numpy and transformers.
`benchmarks.embedders.backends` starts it:

    python parity_worker.py MODEL WEIGHTS    MODEL: vggish, or a CLAP checkpoint's file name without .pt
    python parity_worker.py --versions       import everything and print the versions

Then requests come on stdin, one JSON object per line, and one answer per line goes to stdout:

    {"embed": ["a.npy", "b.wav"], "to": ["1.npy", "2.npy"]}    {}                 each (windows, dim)
    {"score": ["originals", "outputs"]}                        {"value": 1.5}     FAD of two folders of sound files
                                                               {"error": "..."}   of a request that fails

A `.npy` holds mono samples at the model's rate; sound files go through frechet-audio-distance's own loader.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("frechet-audio-distance", "laion-clap", "torchvggish", "torch", "numpy", "transformers", "resampy")
#: Checkpoint (file name without `.pt`) -> what frechet-audio-distance calls it.
CLAP = {
    "630k-audioset-best": "630k-audioset",
    "630k-best": "630k",
    "music_audioset_epoch_15_esc_90.14": "music_audioset",
    "music_speech_epoch_15_esc_89.25": "music_speech",
    "music_speech_audioset_epoch_15_esc_89.98": "music_speech_audioset",
}


def prepare() -> None:
    """Let the packages import beside a torch without CUDA, and without anything from the model hub."""
    import torch

    # torchvision's compiled operators do not load beside another build of torch; its Python code wants their names.
    spec = find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    names = re.findall(r'@register_meta\("(\w+)"', (Path(spec.origin).parent / "_meta_registrations.py").read_text())
    library = torch.library.Library("torchvision", "DEF")
    for name in {*names, "nms", "qnms"}:
        library.define(f"{name}(Tensor x) -> Tensor")
    prepare.library = library  # type: ignore[attr-defined]  # the names live as long as it does

    # laion-clap loads tokenizers, which no audio needs, and RoBERTa, whose weights the checkpoint replaces.
    from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaModel

    base = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    loaded: list[tuple[Any, Any]] = [(PreTrainedTokenizerBase, lambda *_, **__: None)]
    loaded.append((RobertaModel, lambda *_, **__: RobertaModel(base)))
    for kind, load in loaded:
        kind.from_pretrained = staticmethod(load)


def make_tool(model: str, weights: Path) -> Any:
    """`FrechetAudioDistance` with the given weights, as the FAD of papers is computed: no PCA, no activation."""
    import torch
    from frechet_audio_distance import FrechetAudioDistance

    if model == "vggish":
        torch.hub.load = lambda *args, **options: vggish(weights)
        return FrechetAudioDistance(model_name="vggish", sample_rate=16000, use_pca=False, use_activation=False)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{model}.pt").symlink_to(weights.resolve())
        return FrechetAudioDistance(ckpt_dir=folder, model_name="clap", submodel_name=CLAP[model], sample_rate=48000)


def vggish(weights: Path) -> Any:
    """torchvggish's network behind its front end, as the copy that torch.hub fetches joins them."""
    import torch
    from torchvggish import torchvggish, vggish_input

    class VGGish(torchvggish.VGG):
        def forward(self, audio: Any, rate: int) -> Any:
            return super().forward(vggish_input.waveform_to_examples(audio, rate).to(self.device))

    network = VGGish(torchvggish.make_layers(), postprocess=False)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict({key: value for key, value in state.items() if not key.startswith("pproc.")})
    return network


def answer(tool: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    import numpy as np
    from frechet_audio_distance.utils import load_audio_task

    if "score" in request:
        value = float(tool.score(*request["score"]))
        # What goes wrong inside is printed there, and -1 returned.
        return {"error": "frechet-audio-distance returned -1"} if value == -1 else {"value": value}
    for source, target in zip(request["embed"], request["to"], strict=True):
        rate = tool.sample_rate
        audio = np.load(source) if source.endswith(".npy") else load_audio_task(source, rate, 1)
        np.save(target, tool.get_embeddings([audio], sr=rate))
    return {}


def main() -> None:
    """The command."""
    # The packages print; answers keep the real stdout to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare()
    if sys.argv[1:] == ["--versions"]:
        __import__("frechet_audio_distance")  # which imports laion_clap
        __import__("torchvggish")
        print(json.dumps({name: version(name) for name in PACKAGES}, indent=1), file=answers, flush=True)
        return
    tool = make_tool(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            reply = answer(tool, json.loads(line))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
