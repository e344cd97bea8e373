"""Writers of the containers that published weights come in; `published_weights` fills them, loaders' tests change them.

Each takes a network of ours, writes its weights under the published names into a folder, and returns what its loader
is given. `change` may alter the state dict before it is written.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.autoencoders.networks.mousai import published_names
from benchmarks.autoencoders.networks.musika import keras_layers
from m2l.io.published import key_map

State = dict[str, torch.Tensor]
Change = Callable[[State], None]


def nothing(state: State) -> None:
    """No change."""


def write_snapshot(
    model: Any,
    folder: Path,
    config: dict[str, Any],
    change: Change = nothing,
    file: str = "model.safetensors",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A folder as transformers and diffusers save one: safetensors, and the configuration beside it."""
    state = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "Something", "extra": 1}))
    return folder


def write_mousai(model: Any, folder: Path, config: dict[str, Any], change: Change = nothing) -> Path:
    """`pytorch_model.bin`, in which the three names of a tensor share its storage, as torch saves them."""
    own = model.state_dict()
    state = {name: own[key] for key, names in published_names(model).items() for name in names}
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def write_ear_vae(model: Any, folder: Path, config: dict[str, Any], change: Change = nothing) -> Path:
    """`ear_vae_44k.pyt`: numbered layers, and activations without their two axes of length one."""
    from benchmarks.autoencoders.networks.ear_vae import published_names, published_shapes

    names, shapes = published_names(model), published_shapes(model)
    state = {names[key]: value.reshape(shapes[names[key]]) for key, value in model.state_dict().items()}
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ear_vae_44k.pyt")
    return folder / "ear_vae_44k.pyt"


def write_snac(model: Any, folder: Path, config: dict[str, Any], change: Change = nothing) -> Path:
    """`pytorch_model.bin`, and the arguments of the authors' class beside it."""
    state = dict(model.state_dict())
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    record = config | {"sampling_rate": 44100, "noise": True, "depthwise": True}
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def write_codicodec(model: Any, folder: Path, config: dict[str, Any], change: Change = nothing) -> Path:
    """`codicodec.pt`; training statistics are numpy scalars, as in the published file of its predecessor."""
    state = dict(model.state_dict())
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_as_numpy_1({"gen_state_dict": state, "it": np.float64(7.0)}, folder / "codicodec.pt")
    return folder / "codicodec.pt"


def write_music2latent(model: Any, folder: Path, config: Any, change: Change = nothing) -> Path:
    """`music2latent.pt`: 583 entries of `gen_state_dict` beside numpy scalars."""
    own = model.state_dict()
    state = {theirs: own[ours] for theirs, ours in key_map(config).items()}
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_as_numpy_1({"gen_state_dict": state, "it": np.float64(800_000.0)}, folder / "music2latent.pt")
    return folder / "music2latent.pt"


def save_as_numpy_1(content: Any, path: Path) -> None:
    """`torch.save` with numpy's scalars under the name that numpy 1 gave them, which published files hold."""

    class Pickler(pickle.Pickler):
        def __init__(self, file: Any, protocol: int) -> None:
            self.file, self.buffer = file, io.BytesIO()
            super().__init__(self.buffer, protocol)

        def dump(self, content: Any) -> None:
            super().dump(content)
            text = self.buffer.getvalue()
            self.file.write(text.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))

    torch.save(content, path, pickle_module=SimpleNamespace(Pickler=Pickler, __name__="pickle"))


# ---- SAME, as stable-audio-tools writes it ---------------------------------------------------------------

_SAME_NAMES = [
    ("encoder.blocks.0.", "encoder.layers.0."),
    ("encoder.proj.", "encoder.layers.2."),
    ("decoder.proj.", "decoder.layers.1."),
    ("decoder.blocks.0.", "decoder.layers.3."),
    ("bottleneck.scale", "bottleneck.scaling_factor"),
    (".norm_attn.", ".pre_norm."),
    (".norm_ff.", ".ff_norm."),
    (".attn.", ".self_attn."),
    (".ff.proj_in.", ".ff.ff.0.proj."),
    (".ff.proj_out.", ".ff.ff.2."),
]


def write_same(model: Any, folder: Path, config: dict[str, Any], change: Change = nothing) -> Path:
    """`model.safetensors` with the rotary frequencies of each layer, and `model_config.json`."""
    state: State = {"bottleneck.noise_scaling_factor": torch.ones(1, 0, 1)}
    for key, value in model.state_dict().items():
        for ours, theirs in _SAME_NAMES:
            key = key.replace(ours, theirs)
        if key.endswith("to_qkv.weight"):
            q, q2, k, k2, v = value.chunk(5)
            value = torch.cat([q, k, v, q2, k2])
        state[key] = value.contiguous()
    for name, buffer in model.named_buffers():
        if name.endswith("rope.inv_freq"):
            name = name.replace("encoder.blocks.0.", "encoder.layers.0.")
            name = name.replace("decoder.blocks.0.", "decoder.layers.3.").replace(".attn.rope", ".rope")
            state[name] = buffer.clone()
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors")
    window = None if config["chunk_latents"] else [1, 1]
    side = {"strides": [16], "sliding_window": window}
    decoder = side | {"sinusoidal_blocks": config["decoder_sinusoidal_blocks"]}
    record = {"model": {"encoder": {"config": side}, "decoder": {"config": decoder}}}
    (folder / "model_config.json").write_text(json.dumps(record))
    return folder


# ---- Musika's Keras files ------------------------------------------------------------------------------


def write_h5(network: Any, path: Path, first: int = 5, **changes: Any) -> None:
    """A `save_weights` file: layers numbered over a session, with gaps, in another order than they were made."""
    import h5py

    groups: list[tuple[str, dict[str, np.ndarray]]] = []
    for kind, layers in keras_layers(network).items():
        for index, layer in enumerate(layers):
            name = f"{kind}_{first + index + (index > 2)}" if first + index else kind
            if kind == "add_noise":
                groups.append((name, {"noise_weight:0": layer.noise_weight.detach().numpy()}))
                continue
            kernel = layer.conv.weight.detach().numpy().transpose(2, 1, 0)[None]
            groups.append((name, {"kernel:0": kernel, "bias:0": layer.conv.bias.detach().numpy()}))
    if changes.get("named"):  # the last convolution has a name of its own in ENC2 and DEC2
        last = max(i for i, (name, _) in enumerate(groups) if re.fullmatch(r"conv2d_\d+", name))
        groups[last] = (changes["named"], groups[last][1])
    groups = [(name, weights) for name, weights in groups if name != changes.get("drop")]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", *(name.encode() for name, _ in reversed(groups))]
        file.create_group("input_1").attrs["weight_names"] = []
        for name, weights in groups:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{key}".encode() for key in weights]
            for key, value in weights.items():
                group.create_dataset(f"{name}/{key}", data=changes.get("change", lambda x: x)(value))


def write_musika(model: Any, folder: Path, **changes: Any) -> Path:
    """The four h5 files; `changes` are made to the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_h5(model.enc, folder / "enc.h5", first=0)
    write_h5(model.enc2, folder / "enc2.h5", named="cbottle")
    write_h5(model.dec2, folder / "dec2.h5", first=9, named="cout")
    write_h5(model.dec, folder / "dec.h5", **changes)
    return folder


# ---- LAION-CLAP ------------------------------------------------------------------------------------------


def clap_text_shapes() -> dict[str, tuple[int, ...]]:
    """What a LAION checkpoint holds beside its audio tower: RoBERTa base, the text projections, two scales."""
    from transformers import RobertaConfig, RobertaModel

    with torch.device("meta"):
        roberta = RobertaModel(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1))
    shapes = {f"text_branch.{key}": tuple(value.shape) for key, value in roberta.state_dict().items()}
    shapes |= {"logit_scale_a": (), "logit_scale_t": (), "text_branch.embeddings.position_ids": (1, 514)}
    square = {"weight": (512, 512), "bias": (512,)}
    for part, shape in square.items():
        for side in ("text", "audio"):
            shapes |= {f"{side}_transform.sequential.{layer}.{part}": shape for layer in (0, 3)}
        shapes |= {f"text_projection.2.{part}": shape}
    return shapes | {"text_projection.0.weight": (512, 768), "text_projection.0.bias": (512,)}


def save_clap(path: Path, state: Mapping[str, torch.Tensor], *, optimizer: bool) -> None:
    """A file as LAION's training writes it: `module.` prefixes, a record, and Adam's two moments of each parameter."""
    moments = adam_moments(state) if optimizer else {}
    groups = [{"lr": np.float32(1e-4), "step": np.int64(3), "params": list(moments)}]
    content = {
        "epoch": 15,
        "name": "synthetic",
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "best": np.float64(90.14),
        "optimizer": {"state": moments, "param_groups": groups},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_as_numpy_1(content, path)


def adam_moments(state: Mapping[str, torch.Tensor]) -> dict[int, dict[str, Any]]:
    """What Adam keeps of each parameter, by number."""
    parameters = [value for value in state.values() if value.is_floating_point()]
    return {
        number: {"step": 1, "exp_avg": torch.zeros_like(value), "exp_avg_sq": torch.zeros_like(value)}
        for number, value in enumerate(parameters)
    }
