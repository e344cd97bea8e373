"""From band similarities to MOS-LQO: support vector regression (audio), an exponential (speech).

The lattice network, the default of speech mode, is in `benchmarks.metrics.visqol.lattice`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Exponential of speech mode, a + exp(b·(x - x0)), fitted by Google to TCD-VoIP; the scale maps a perfect
#: NSIM to 5.
_EXPONENTIAL = (-262.847869, 0.0154302525, -361.063949)
_SPEECH_SCALE = float(np.float32(1.245063))


class ModelFormatError(ValueError):
    """The file is not the model that ViSQOL's mode needs."""


@dataclass(frozen=True)
class Features:
    """What a pair is mapped to MOS-LQO by: numbers for each band, (bands,), over all patches.

    Attributes:
        nsim: mean NSIM.
        nsim10: mean NSIM of the worst tenth of the patches, of one at least.
        deviation: standard deviation of the similarity, over frames; empty in audio mode, as is `energy`.
        energy: mean of the estimate's spectrogram in dB above its floor.
    """

    nsim: NDArray[np.float64]
    nsim10: NDArray[np.float64]
    deviation: NDArray[np.float64]
    energy: NDArray[np.float64]


@dataclass(frozen=True)
class SupportVectorRegression:
    """nu-SVR with a radial basis function kernel: f(x) = Σ α_i·exp(-γ‖x - s_i‖²) - ρ.

    Attributes:
        support_vectors: (vectors, bands).
        coefficients: α, (vectors,).
        gamma: γ.
        rho: ρ.
        digest: sha256 of the file it was read from.
    """

    support_vectors: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    gamma: float
    rho: float
    digest: str

    def predict(self, band_nsim: NDArray[np.float64]) -> float:
        """MOS-LQO in [1, 5] from the mean NSIM of each band, (bands,)."""
        distance = np.sum((self.support_vectors - band_nsim) ** 2, axis=1)
        mos = float(np.dot(self.coefficients, np.exp(-self.gamma * distance)) - self.rho)
        return min(max(mos, 1.0), 5.0)


def speech_mos(band_nsim: NDArray[np.float64], *, scaled: bool = True) -> float:
    """MOS-LQO of speech mode from the mean NSIM of each band.

    Args:
        band_nsim: (bands,).
        scaled: stretch the scale so that a perfect match gets 5; Google's default.
    """
    a, b, x0 = _EXPONENTIAL
    mos = a + float(np.exp(b * (float(np.mean(band_nsim)) - x0)))
    return min(max(mos * (_SPEECH_SCALE if scaled else 1.0), 1.0), 5.0)


def parse_libsvm(text: str, n_bands: int, name: str) -> SupportVectorRegression:
    """Read a libsvm text model.

    Args:
        text: the content of the file.
        n_bands: features that a support vector must have.
        name: what to call the file in an error.

    Raises:
        ModelFormatError: not a libsvm nu-SVR/RBF model with `n_bands` features; the message says what is
            wrong.
    """
    head, separator, body = text.partition("\nSV\n")
    header = dict(line.split(None, 1) for line in head.splitlines() if len(line.split(None, 1)) == 2)
    if not separator or "svm_type" not in header:
        raise ModelFormatError(f"{name} is not a libsvm text model (no header with 'svm_type' and 'SV')")
    for key, wanted in (("svm_type", "nu_svr"), ("kernel_type", "rbf")):
        if header.get(key) != wanted:
            raise ModelFormatError(f"{name}: {key} is {header.get(key)!r}, ViSQOL needs {wanted!r}")
    try:
        total, gamma, rho = int(header["total_sv"]), float(header["gamma"]), float(header["rho"])
        rows = [line.split() for line in body.splitlines() if line.strip()]
        coefficients = np.array([float(row[0]) for row in rows])
        vectors = np.zeros((len(rows), n_bands))  # libsvm leaves zeros out
        for vector, row in zip(vectors, rows, strict=True):
            for item in row[1:]:
                index, value = item.split(":")
                if not 1 <= int(index) <= n_bands:
                    raise ModelFormatError(f"{name}: feature {index} outside 1 … {n_bands}")
                vector[int(index) - 1] = float(value)
    except (KeyError, ValueError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"{name} is damaged: {error!r}") from error
    if len(rows) != total:
        raise ModelFormatError(f"{name} is cut off: {len(rows)} of {total} support vectors")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return SupportVectorRegression(vectors, coefficients, gamma, rho, digest)


@lru_cache(maxsize=8)
def _load(path: Path, modified_ns: int, n_bands: int) -> SupportVectorRegression:
    return parse_libsvm(path.read_text(encoding="utf-8"), n_bands, str(path))


def load_model(path: str | Path, n_bands: int = 32) -> SupportVectorRegression:
    """Read the model file at `path`; read once per process while the file does not change.

    Raises:
        FileNotFoundError: nothing at `path`.
        ModelFormatError: not the model that is needed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"ViSQOL model not found: {path}")
    try:
        return _load(path, path.stat().st_mtime_ns, n_bands)
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path} is not a text file: {error}") from error
