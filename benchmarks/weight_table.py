"""The published weights the suite knows: where they come from, under which licence, and their digests.

An origin names a source, not an address: `hub:OWNER/NAME@REVISION` on the model hub,
`github:OWNER/NAME@TAG` for a release asset, `wheel:NAME==VERSION` for a Python package that carries the
files. `sha256` and `size` are given where they have been verified; where they are None, `fetch` checks the
digest that the hub itself publishes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One file of a set of weights: path inside its origin, size in bytes, sha256."""

    path: str
    size: int | None = None
    sha256: str | None = None

    @property
    def basename(self) -> str:
        """File name without folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class WeightSource:
    """A set of weights: one file, or several that belong together."""

    name: str
    origin: str
    files: tuple[WeightFile, ...]
    licence: str
    used_for: str

    @property
    def kind(self) -> str:
        """`hub`, `github` or `wheel`."""
        return self.origin.partition(":")[0]

    @property
    def location(self) -> tuple[str, str]:
        """(owner/name or package, revision, tag or version)."""
        place = self.origin.partition(":")[2]
        separator = "==" if self.kind == "wheel" else "@"
        name, _, version = place.partition(separator)
        return name, version


#: LAION-CLAP checkpoints by the stem of their file: the audio tower each was trained with.
CLAP_TOWERS = {
    "630k-best": "HTSAT-tiny",
    "630k-audioset-best": "HTSAT-tiny",
    "music_audioset_epoch_15_esc_90.14": "HTSAT-base",
    "music_speech_epoch_15_esc_89.25": "HTSAT-base",
    "music_speech_audioset_epoch_15_esc_89.98": "HTSAT-base",
}

_SOURCES = (
    WeightSource(
        "vggish",
        "github:harritaylor/torchvggish@v0.1",
        (WeightFile("vggish-10086976.pth"),),
        "Apache-2.0",
        "FAD: VGGish embeddings",
    ),
    *(
        WeightSource(
            f"clap-{stem}",
            "hub:lukewys/laion_clap@main",
            (WeightFile(f"{stem}.pt"),),
            "CC0-1.0",
            f"FAD_clap: LAION-CLAP, {tower}",
        )
        for stem, tower in CLAP_TOWERS.items()
    ),
    WeightSource(
        "musicnn-msd",
        "wheel:musicnn==0.1.0",
        (
            WeightFile(
                "musicnn/MSD_musicnn/.index",
                4948,
                "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
            ),
            WeightFile(
                "musicnn/MSD_musicnn/.data-00000-of-00001",
                9465596,
                "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
            ),
        ),
        "ISC",
        "FAD on MusiCNN embeddings; Table 1",
    ),
    WeightSource(
        "visqol-svr",
        "wheel:visqol-python==3.8.0",
        (
            WeightFile(
                "visqol/model/libsvm_nu_svr_model.txt",
                138117,
                "1e8246ed33bf36dc5c859351f7110f2cd31f98661989715c0fcf974ec48d3e2e",
            ),
        ),
        "Apache-2.0",
        "ViSQOL: similarity to MOS, audio mode",
    ),
    WeightSource(
        "visqol-lattice",
        "wheel:visqol-python==3.8.0",
        (
            WeightFile(
                "visqol/model/lattice_tcditugenmeetpackhref_ls2_nl60_lr12_bs2048_learn.005_ep2400_train1_7_raw.tflite",
                2233840,
                "4bd031d6c95594ae2cd1d471aa6611bff26b3bbf816528431ff1741bcd798dc6",
            ),
        ),
        "Apache-2.0",
        "ViSQOL: similarity to MOS, speech mode",
    ),
    WeightSource(
        "music2latent",
        "hub:SonyCSLParis/music2latent@2ac7e25",
        (WeightFile("music2latent.pt"),),
        "CC BY-NC 4.0",
        "Music2Latent as published",
    ),
    WeightSource(
        "musika",
        "hub:marcop/musika_ae@main",
        tuple(WeightFile(f"{part}.h5") for part in ("enc", "enc2", "dec2", "dec")),
        "MIT",
        "Musika, Table 2",
    ),
    WeightSource(
        "mousai-v3",
        "hub:archinetai/dmae1d-ATC32-v3@3d43b811b83fa395d5ccd6cf58b796b85fddd1d2",
        (WeightFile("pytorch_model.bin"),),
        "not stated",
        "Moûsai v3, Table 2",
    ),
    WeightSource(
        "mousai-v2",
        "hub:archinetai/dmae1d-ATC64-v2@3ffeea68d4c069777055fce9ac77bbb67eec1d68",
        (WeightFile("pytorch_model.bin"),),
        "not stated",
        "Moûsai v2, Table 2",
    ),
    WeightSource(
        "dac-44khz",
        "hub:descript/dac_44khz@main",
        (WeightFile("config.json"), WeightFile("model.safetensors")),
        "MIT",
        "DAC at 44.1 kHz, Table 2",
    ),
    WeightSource(
        "codicodec",
        "hub:SonyCSLParis/codicodec@main",
        (WeightFile("codicodec.pt"),),
        "CC BY-NC 4.0",
        "CoDiCodec",
    ),
    WeightSource(
        "stable-audio-vae",
        "hub:stabilityai/stable-audio-open-1.0@main",
        (WeightFile("vae/config.json"), WeightFile("vae/diffusion_pytorch_model.safetensors")),
        "Stability AI Community (gated)",
        "Stable Audio Open's VAE",
    ),
    WeightSource(
        "same-s",
        "hub:stabilityai/SAME-S@main",
        (WeightFile("model_config.json"), WeightFile("model.safetensors")),
        "Stability AI Community",
        "SAME-S",
    ),
    WeightSource(
        "same-l",
        "hub:stabilityai/SAME-L@main",
        (WeightFile("model_config.json"), WeightFile("model.safetensors")),
        "Stability AI Community",
        "SAME-L",
    ),
    WeightSource(
        "kvae-audio",
        "hub:kandinskylab/KVAE-Audio@main",
        (WeightFile("diffusers/config.json"), WeightFile("diffusers/diffusion_pytorch_model.safetensors")),
        "not verified: see the NOTICE at its source",
        "KVAE-Audio",
    ),
    WeightSource(
        "encodec-48khz",
        "hub:facebook/encodec_48khz@main",
        (WeightFile("config.json"), WeightFile("model.safetensors")),
        "not verified, CC BY-NC 4.0 expected",
        "EnCodec at 48 kHz",
    ),
    WeightSource(
        "mimi",
        "hub:kyutai/mimi@main",
        (WeightFile("config.json"), WeightFile("model.safetensors")),
        "not verified, CC BY 4.0 expected",
        "Mimi",
    ),
    WeightSource(
        "clmr",
        "github:Spijkervet/CLMR@2.0",
        (WeightFile("clmr_checkpoint_10000.zip"),),
        "Apache-2.0",
        "CLMR, Table 1",
    ),
    WeightSource(
        "mert-v1-95m",
        "hub:m-a-p/MERT-v1-95M@main",
        (WeightFile("config.json"), WeightFile("preprocessor_config.json"), WeightFile("pytorch_model.bin")),
        "CC BY-NC 4.0",
        "MERT, Table 1",
    ),
)

WEIGHTS: dict[str, WeightSource] = {source.name: source for source in _SOURCES}
