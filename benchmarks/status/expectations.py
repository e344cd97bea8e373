"""What is known of published weights before anyone here has run them: ranges of `doctor --deep`, each with its source.

SI-SDR and ViSQOL come from the published tables (`benchmarks.tables.reference`): means over MusicCaps, from which one
synthetic clip may lie far. Their ranges are wide, and still narrow enough for what they are for: a network whose
weights are wired wrongly has a ViSQOL of 1, and an SI-SDR below -30 dB.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tables.reference import published_rows

#: How far from a published mean the built-in clip may lie.
SI_SDR_MARGIN, VISQOL_MARGIN = 12.0, 1.2

#: System -> name and source of its row in `reference.json`.
_ROWS = {
    "musika": ("Musika", "paper"),
    "mousai-v2": ("Moûsai_v2", "paper"),
    "mousai-v3": ("Moûsai_v3", "paper"),
    "music2latent": ("Music2Latent", "paper"),
    "dac-44khz": ("DAC", "paper"),
    "codicodec": ("CoDiCodec (parallel, 4 steps)", "codicodec"),
    "stable-audio-vae": ("Stable Audio VAE", "codicodec"),
    "same-s": ("SAME-S", "mossland"),
    "same-l": ("SAME-L", "mossland"),
    "encodec-48khz": ("EnCodec 24 kbit/s", "mossland"),
}


@dataclass(frozen=True)
class Expectation:
    """A quantity of the report lies in [low, high], by `source`."""

    low: float
    high: float
    source: str

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:,.10g}"
        if self.high == float("inf"):
            return f"at least {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


def _exactly(value: float, source: str) -> Expectation:
    return Expectation(value, value, source)


_CLASS = "the class of {} that wrote the file"
_TANH = Expectation(0.0, 1.0, "latents end in tanh")


def _network(entries: int, parameters: int, source: str) -> dict[str, Expectation]:
    return {"file entries": _exactly(entries, source), "parameters": _exactly(parameters, source)}


_KNOWN: dict[str, dict[str, Expectation]] = {
    "music2latent": _network(583, 58_185_026, "listing of the authors' package 0.1.8")
    | {
        "latents z: largest magnitude": Expectation(0.0, 1 / 0.06, "tanh, divided by 0.06 (authors' code)"),
        "latents z: deviation": Expectation(0.5, 2.0, "0.06 was chosen to make it 1 (authors' code)"),
    },
    "musika": _network(82, 28_087_890, "the authors' Keras code; file sizes divided by 4")
    | {"latents z: largest magnitude": _TANH},
    "mousai-v2": _network(1070, 185_107_872, "archinet's packages with the published dmae.py")
    | {"latents z: largest magnitude": _TANH},
    "mousai-v3": _network(937, 86_270_688, "archinet's packages; a printed model of 2,727 lines")
    | {"latents z: largest magnitude": _TANH},
    "dac-44khz": _network(223, 76_620_777, _CLASS.format("transformers"))
    | {"latents codes: distinct": Expectation(100, 1024, "nine codebooks of 1,024 that are used evenly (DAC's paper)")},
    "codicodec": _network(546, 148_533_388, "the package codicodec 0.1.2") | {"latents z: largest magnitude": _TANH},
    "stable-audio-vae": _network(365, 156_112_514, _CLASS.format("diffusers"))
    | {"latents z: deviation": Expectation(0.3, 3.0, "a variational autoencoder's prior has 1")},
    "ace-step-vae": _network(365, 168_695_426, _CLASS.format("diffusers") + "; other projects' inventory of the file")
    | {"latents z: deviation": Expectation(0.3, 3.0, "a variational autoencoder's prior has 1")},
    "ear-vae": _network(386, 147_856_386, "the authors' class; the file's size")
    | {"latents z: deviation": Expectation(0.3, 3.0, "a variational autoencoder's prior has 1")},
    "snac-44khz": _network(286, 54_546_338, "the authors' package snac 1.2.1"),
    "xcodec2": _network(811, 629_281_706, _CLASS.format("transformers")),
    "same-s": _network(244, 108_244_528, "hub page: 244 tensors; diffusers"),
    "same-l": {"parameters": _exactly(852_127_072, _CLASS.format("diffusers"))},
    "kvae-audio": _network(308, 166_871_218, _CLASS.format("diffusers"))
    | {"latents z: deviation": Expectation(0.3, 3.0, "a variational autoencoder's prior has 1")},
    "encodec-48khz": _network(224, 14_856_294, _CLASS.format("transformers")),
    "mimi": _network(350, 79_308_609, _CLASS.format("transformers")),
    "clmr": {"parameters": _exactly(2_394_162, "the authors' SampleCNN")},
    "mert-v1-95m": _network(211, 94_371_712, "the authors' class; outputs equal HubertModel's"),
    "vggish": {"parameters": _exactly(72_141_184, "the authors' class")},
    "musicnn-msd": {"file entries": _exactly(150, "the wheel's index read by TensorFlow 2.21")},
}

#: What weights that may be shared give on the built-in clip of the usual length.
_ON_THE_CLIP = {
    "music2latent-mini": {
        "SI-SDR, dB": Expectation(-2.0, 0.0, "this clip when the checkpoint was made: -1.05 dB"),
        "ViSQOL": Expectation(3.7, 4.2, "this clip when the checkpoint was made: 3.96"),
    },
    "musicnn-msd": {
        "embeddings: mean": Expectation(0.200, 0.210, "a port within 4e-6 of the wheel's graph in TensorFlow 2.21"),
        "embeddings: deviation": Expectation(2.20, 2.23, "the same"),
    },
}

#: Holds for every embedder and representation that learned anything.
SEPARATES = Expectation(0.0, 2.0, "a clip at half its level is nearer to the clip than white noise is")


def expectations(name: str, *, usual_clip: bool = True) -> dict[str, Expectation]:
    """What is known of a system, embedder or representation, by quantity of the report.

    Args:
        name: registered name.
        usual_clip: the built-in clip has its usual length, for which figures are known.
    """
    base = name.partition("@")[0]
    found = _KNOWN.get(base, {}) | (_ON_THE_CLIP.get(base, {}) if usual_clip else {})
    if base.startswith("clap-"):
        found["embeddings: norm"] = Expectation(1 - 1e-5, 1 + 1e-5, "LAION's code: embeddings have unit length")
    if base in _ROWS:
        row, source = _ROWS[base]
        published = next(item for item in published_rows("table2", (source,)) if item.name == row)
        for quantity, key, margin in (("SI-SDR, dB", "si_sdr", SI_SDR_MARGIN), ("ViSQOL", "visqol", VISQOL_MARGIN)):
            mean = published.values[key]
            low, high = mean - margin, mean + margin
            found[quantity] = Expectation(round(low, 2), round(high, 2), f"{mean:g} in {published.source}")
    return found
