"""Random weights in the exact published form of every set that the paper suite names, and their digests.

    python -m tests.world.published_weights ROOT [NAME ...] [--whole]

writes ROOT/NAME/PATH, with the names and paths of `benchmarks.weights.table`, and ROOT/stand_ins.json: the sizes and
sha256 that stand in for the published ones. Networks have their full size; all of it takes 9.4 GB and some minutes.
Wheels are real and are not written. A set that is there already is kept.

Names, shapes and types come from the libraries whose classes the published files belong to where there is one
(transformers, diffusers, codicodec), else from listings of the originals (`tests/golden`) or from our own ports.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.embedders.clap import clap_mel_matrix
from benchmarks.embedders.clap import published_shapes as clap_audio_shapes
from benchmarks.embedders.vggish import published_shapes as vggish_shapes
from benchmarks.fetch.command import fetchable
from benchmarks.fetch.suite import names_for
from benchmarks.suite import load_suite
from benchmarks.weights.table import CLAP_TOWERS, WEIGHTS
from m2l.config import create_config
from m2l.io.digest import file_sha256
from m2l.model import Music2Latent
from probes.representations.clmr import CHECKPOINT, SampleCNN
from probes.representations.mert import mert_config

from . import formats

#: Name of the file with sizes and digests.
STAND_INS = "stand_ins.json"


def write_weights(
    root: str | os.PathLike[str], names: Iterable[str] | None = None, seed: int = 0, *, whole: bool = False
) -> Path:
    """Write weights and the table of their digests.

    Args:
        root: folder, made if it is not there.
        names: entries of the table of weights; all that the paper suite needs (but wheels) by default.
        seed: of all values.
        whole: write the optimizer's state that CLAP's files carry, too: 3 times their size.

    Returns:
        The file `stand_ins.json`, which covers every set that lies below `root`.
    """
    folder = Path(root).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in paper_weights() if names is None else names:
        if not (folder / name).is_dir():
            print(f"{name}: writing", file=sys.stderr, flush=True)
            work = folder / f".{name}.{os.getpid()}"
            shutil.rmtree(work, ignore_errors=True)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _write(name, work, whole)
            work.rename(folder / name)
    return _write_stand_ins(folder)


def paper_weights() -> list[str]:
    """Sets of weights that the paper suite needs, but for those in wheels, which are real."""
    names = names_for(load_suite("paper"), fetchable())
    return [name for name in names if name in WEIGHTS and WEIGHTS[name].kind != "wheel"]


def _write_stand_ins(folder: Path) -> Path:
    """Digests of the sets below `folder`; those of an earlier file are taken over for sets that it names."""
    path = folder / STAND_INS
    known = json.loads(path.read_text()) if path.is_file() else {}
    found = {}
    for name in sorted(path.name for path in folder.iterdir() if path.name in WEIGHTS):
        files = {file.path: folder / name / file.path for file in WEIGHTS[name].files}
        sizes = {key: file.stat().st_size for key, file in files.items()}
        old = known.get(name, {})
        if {key: value["size"] for key, value in old.items()} == sizes:
            found[name] = old
        else:
            found[name] = {key: {"size": sizes[key], "sha256": file_sha256(file)} for key, file in files.items()}
    part = path.with_name(f".{STAND_INS}.{os.getpid()}")
    part.write_text(json.dumps(found, indent=1))
    part.replace(path)
    return path


def _write(name: str, folder: Path, whole: bool) -> None:
    if name in AUTOENCODERS and name != "music2latent":
        cls = AUTOENCODERS.load(name)
        model, config = alive(cls.build(cls.config())), cls.config()
        _AUTOENCODERS.get(name, _inside(".", "model.safetensors"))(model, folder, config)
    elif name.startswith("clap-"):
        stem = name.removeprefix("clap-")
        state = clap_state(CLAP_TOWERS[stem])
        formats.save_clap(folder / f"{stem}.pt", state, optimizer=whole)
    else:
        folder.mkdir(parents=True)
        _OTHERS[name](folder)


def alive(model: torch.nn.Module) -> torch.nn.Module:
    """The network with small random numbers where its initialization has zeros, which would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.02)
    return model


def _inside(folder_name: str, file: str, dtype: torch.dtype = torch.float32) -> Callable[..., Any]:
    """A writer of a snapshot, with everything that its library saves as the network's configuration."""

    def write(model: Any, folder: Path, config: dict[str, Any]) -> Path:
        record = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
        record = json.loads(json.dumps(record, default=str))
        return formats.write_snapshot(model, folder / folder_name, record, file=file, dtype=dtype)

    return write


_AUTOENCODERS: dict[str, Callable[..., Any]] = {
    "musika": lambda model, folder, config: formats.write_musika(model, folder),
    "mousai-v2": formats.write_mousai,
    "mousai-v3": formats.write_mousai,
    "codicodec": formats.write_codicodec,
    "same-s": formats.write_same,
    "same-l": formats.write_same,
    "stable-audio-vae": _inside("vae", "diffusion_pytorch_model.safetensors"),
    "ace-step-vae": _inside("vae", "diffusion_pytorch_model.safetensors", torch.bfloat16),
    "ear-vae": lambda model, folder, config: formats.write_ear_vae(model, folder / "pretrained_weight", config),
    "snac-44khz": formats.write_snac,
    "kvae-audio": _inside("diffusers", "diffusion_pytorch_model.safetensors"),
}


# ---- what is no adapter of `benchmarks.autoencoders` -------------------------------------------------------


def random_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """float32 tensors of the size that keeps activations at order 1."""
    state = {}
    for name, shape in shapes.items():
        value = torch.empty(shape).normal_()
        if name.endswith("running_var"):
            value.abs_().mul_(0.2).add_(1.0)
        elif len(shape) > 1:
            value.mul_(value[0].numel() ** -0.5)
        elif "norm" in name.lower() and name.endswith("weight"):
            value.mul_(0.1).add_(1.0)
        else:
            value.mul_(0.1)
        state[name] = value
    return state


def clap_state(tower: str) -> dict[str, torch.Tensor]:
    """Everything of a LAION checkpoint; the audio front end holds what it computes with."""
    shapes = clap_audio_shapes(tower) | formats.clap_text_shapes()
    state = random_state({name: shape for name, shape in shapes.items() if shape})
    for name in shapes:
        if name.endswith("relative_position_index"):
            state[name] = relative_positions()
        elif name.endswith("melW"):
            state[name] = torch.from_numpy(clap_mel_matrix())
        elif name.endswith(("conv_real.weight", "conv_imag.weight")):
            state[name] = stft_kernels(imaginary="imag" in name)
        elif name.endswith("attn_mask"):
            state[name] = attention_mask(len(state[name]))
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("position_ids"):
            state[name] = torch.arange(514)[None]
        elif name.startswith("logit_scale"):
            state[name] = torch.tensor(2.66)
    # Log-mel values lie about -30 dB: the first normalization expects that.
    state["audio_branch.bn0.running_mean"].fill_(-30.0)
    state["audio_branch.bn0.running_var"].fill_(150.0)
    return state


def stft_kernels(n_fft: int = 1024, *, imaginary: bool) -> torch.Tensor:
    """The Fourier transform with a periodic Hann window as a convolution, (n_fft / 2 + 1, 1, n_fft)."""
    bins, samples = torch.arange(n_fft // 2 + 1)[:, None], torch.arange(n_fft)
    phase = 2 * torch.pi * (bins * samples % n_fft).double() / n_fft
    wave = -torch.sin(phase) if imaginary else torch.cos(phase)
    return (wave * torch.hann_window(n_fft, dtype=torch.float64))[:, None].float()


def attention_mask(windows: int, window: int = 8) -> torch.Tensor:
    """Swin's mask of shifted windows, (windows, window², window²): 0 within a region of the image, -100 across."""
    side = round(windows**0.5) * window
    part = torch.zeros(side, dtype=torch.long)
    part[-window:], part[-window // 2 :] = 1, 2
    regions = 3 * part[:, None] + part
    across = side // window
    regions = regions.reshape(across, window, across, window).permute(0, 2, 1, 3).reshape(windows, window * window)
    return (regions[:, None] != regions[:, :, None]).float() * -100.0


def relative_positions(window: int = 8) -> torch.Tensor:
    """Swin's numbering of the offsets between two positions of a window (Liu et al. 2021)."""
    place = torch.arange(window * window)
    rows, columns = place // window, place % window
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return down * (2 * window - 1) + right


def _write_music2latent(folder: Path) -> None:
    config = create_config("paper")
    formats.write_music2latent(alive(Music2Latent.from_config(config, seed=torch.initial_seed())), folder, config)


def _write_vggish(folder: Path) -> None:
    # The release is of 2019: torch's form before 1.6.
    path = folder / WEIGHTS["vggish"].files[0].path
    torch.save(random_state(vggish_shapes()), path, _use_new_zipfile_serialization=False)


def _write_clmr(folder: Path) -> None:
    """The release's archive: the checkpoint and its optimizer's, each a file of torch in a zip."""
    encoder = {f"encoder.{key}": value for key, value in SampleCNN().state_dict().items() if not key.startswith("fc.")}
    projector = {"projector.0.weight": (512, 512), "projector.2.weight": (64, 512)}
    state = encoder | random_state(projector)
    optimizer = {"state": formats.adam_moments(state), "param_groups": []}
    with zipfile.ZipFile(folder / WEIGHTS["clmr"].files[0].path, "w") as archive:
        for name, content in ((CHECKPOINT, state), (CHECKPOINT.replace(".pt", "_optim.pt"), optimizer)):
            buffer = io.BytesIO()
            torch.save(content, buffer)
            archive.writestr(name, buffer.getvalue())


def _write_mert(folder: Path) -> None:
    from transformers import HubertModel

    config = mert_config()
    # The name that torch gave weight normalization until 2.0.
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, value in alive(HubertModel(config)).state_dict().items():
        for new, name in old.items():
            key = key.replace(new, name)
        state[key] = value
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(config.to_json_string())
    processor = {
        "do_normalize": True,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0,
        "return_attention_mask": True,
        "sampling_rate": 24000,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))


_OTHERS: dict[str, Callable[[Path], None]] = {
    "music2latent": _write_music2latent,
    "vggish": _write_vggish,
    "clmr": _write_clmr,
    "mert-v1-95m": _write_mert,
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="with the optimizer's state of CLAP's files")
    given = parser.parse_args()
    print(write_weights(given.root, given.names or None, given.seed, whole=given.whole))


if __name__ == "__main__":
    main()
