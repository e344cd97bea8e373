"""Mergeable first and second moments of a set of embeddings, in float64 and constant memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Rows gathered before they enter the moments: one large product instead of many small ones.
BUFFER_ROWS = 512
#: Rows converted to float64 at a time when a whole set is given at once.
_BLOCK_ROWS = 4096


class Moments:
    """Count, mean and scatter of a set of `dim`-dimensional embeddings.

    `scatter` is the sum of outer products of the *centered* rows, so covariance = scatter / (n - 1). While
    n <= 2 * dim the rows themselves are kept too: such a covariance is singular or badly conditioned,
    and the Fréchet distance is then computed from the data. Above that the state is
    8 (dim² + dim) bytes, plus a buffer of at most `BUFFER_ROWS` rows.

    Merging (`a + b`, `update`) follows Chan, Golub and LeVeque (1983), which is exact to rounding.

    Args:
        n: number of embeddings.
        mean: (dim,) float64.
        scatter: (dim, dim) float64, symmetric.
        rows: (n, dim) where the embeddings are kept, else None.
    """

    __slots__ = ("_buffer", "_buffered", "_mean", "_n", "_rows", "_scatter")

    def __init__(self, n: int, mean: Array, scatter: Array, rows: Array | None = None) -> None:
        self._n, self._mean, self._scatter, self._rows = n, mean, scatter, rows
        self._buffer: list[Array] = []
        self._buffered = 0

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """The moments of no embeddings at all; `update` and `+` start from here."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)), np.zeros((0, dim)))

    @classmethod
    def from_embeddings(cls, x: Any) -> Moments:
        """Moments of `x`, (n, dim) or (dim,) for one embedding; numpy or torch.

        Raises:
            ValueError: `x` is not 2-D, is empty, or has non-finite values (the first row is named).
        """
        rows = _two_dimensional(x)
        if len(rows) == 0:
            raise ValueError("no embeddings: a set needs at least one row")
        if len(rows) <= _BLOCK_ROWS:
            return _of_rows(_finite(rows))
        starts = range(0, len(rows), _BLOCK_ROWS)
        return merge(_of_rows(_finite(rows[i : i + _BLOCK_ROWS], i)) for i in starts)

    @classmethod
    def from_statistics(cls, mean: Any, covariance: Any, n: int) -> Moments:
        """Moments from a stored mean (dim,) and unbiased covariance (dim, dim) of n embeddings.

        Raises:
            ValueError: shapes do not fit, n < 2, or the covariance is not symmetric or not finite.
        """
        mu, sigma = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise ValueError(f"mean {mu.shape} and covariance {sigma.shape} do not fit together")
        if n < 2:
            raise ValueError(f"n={n}: a covariance needs at least 2 embeddings")
        if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
            raise ValueError("mean or covariance has non-finite values")
        asymmetry = float(np.abs(sigma - sigma.T).max())
        if asymmetry > 1e-6 * max(float(np.abs(sigma).max()), 1e-300):
            raise ValueError(f"covariance is not symmetric: largest difference {asymmetry:.3g}")
        return cls(n, mu, 0.5 * (sigma + sigma.T) * (n - 1), None)

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return len(self._mean)

    @property
    def n(self) -> int:
        """Number of embeddings."""
        return self._n + self._buffered

    @property
    def mean(self) -> Array:
        """Mean (dim,)."""
        self._flush()
        return self._mean

    @property
    def scatter(self) -> Array:
        """Sum of outer products of the centered embeddings, (dim, dim)."""
        self._flush()
        return self._scatter

    @property
    def rows(self) -> Array | None:
        """The embeddings (n, dim) while n <= 2 * dim, else None."""
        self._flush()
        return self._rows

    @property
    def covariance(self) -> Array:
        """Unbiased covariance (dim, dim).

        Raises:
            ValueError: fewer than 2 embeddings.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 embeddings, this set has {self.n}")
        return self.scatter / (self.n - 1)

    @property
    def nbytes(self) -> int:
        """Memory the state holds, in bytes."""
        kept = 0 if self._rows is None else self._rows.nbytes
        return self._mean.nbytes + self._scatter.nbytes + kept + sum(part.nbytes for part in self._buffer)

    def update(self, x: Any) -> Moments:
        """Add embeddings (k, dim) or (dim,) in place; small parts are buffered. Returns self.

        Raises:
            ValueError: wrong dimension or non-finite values.
        """
        rows = _two_dimensional(x)
        if rows.shape[1] != self.dim:
            raise ValueError(f"embeddings have dimension {rows.shape[1]}, the set has {self.dim}")
        start = 0
        while start < len(rows):
            piece = _finite(rows[start : start + BUFFER_ROWS - self._buffered], start)
            self._buffer.append(piece)
            self._buffered += len(piece)
            start += len(piece)
            if self._buffered == BUFFER_ROWS:
                self._flush()
        return self

    def _flush(self) -> None:
        """Move the buffered rows into the moments; every reader does so itself."""
        if self._buffered:
            part = _of_rows(np.concatenate(self._buffer))
            self._buffer, self._buffered = [], 0
            self._n, self._mean, self._scatter, self._rows = _merged(self, part)

    def __add__(self, other: Moments) -> Moments:
        """Moments of the union (with repeats) of two sets; neither operand changes.

        Raises:
            ValueError: the dimensions differ.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        if self.dim != other.dim:
            raise ValueError(f"cannot merge moments of dimension {self.dim} and {other.dim}")
        return Moments(*_merged(self, other))

    def without(self, rows: Array) -> Moments:
        """Moments of the set less some of its embeddings `rows` (k, dim); exact to rounding while k < n / 2.

        The embeddings themselves are not kept.

        Raises:
            ValueError: nothing would be left.
        """
        n = self.n - len(rows)
        if n < 1:
            raise ValueError(f"a set of {self.n} embeddings without {len(rows)} of them is empty")
        centered = rows - self.mean
        shift = centered.sum(axis=0) / n
        scatter = self.scatter - centered.T @ centered - np.outer(shift, shift * n)
        return Moments(n, self.mean - shift, scatter)

    def same_as(self, other: Moments) -> bool:
        """Whether mean and covariance are equal bit for bit."""
        return (
            self.n == other.n and np.array_equal(self.mean, other.mean) and np.array_equal(self.scatter, other.scatter)
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz, beside `path` first and then renamed over it."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        beside.write_bytes(self.to_bytes())
        beside.replace(path)

    def to_bytes(self) -> bytes:
        """The .npz as bytes: n, mean, the lower triangle of the scatter, and the rows where kept."""
        arrays = {"n": np.int64(self.n), "mean": self.mean, "scatter": self.scatter[np.tril_indices(self.dim)]}
        if self.rows is not None:
            arrays["rows"] = self.rows
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Moments:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not one of ours.
        """
        return cls.from_bytes(Path(path).read_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Moments:
        """Read what `to_bytes` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            missing = {"n", "mean", "scatter"} - set(stored.files)
            if missing:
                raise ValueError(f"not a file of moments: no {', '.join(sorted(missing))}")
            mean = stored["mean"]
            lower = np.zeros((len(mean), len(mean)))
            lower[np.tril_indices(len(mean))] = stored["scatter"]
            scatter = lower + np.tril(lower, -1).T
            return cls(int(stored["n"]), mean, scatter, stored["rows"] if "rows" in stored.files else None)


def merge(parts: Iterable[Moments]) -> Moments:
    """Moments of the union of many sets.

    Raises:
        ValueError: there are none.
    """
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise ValueError("no moments to merge")
    return total


def _two_dimensional(x: Any) -> np.ndarray:
    """(n, dim) of any real dtype."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().resolve_conj().resolve_neg().numpy()
    rows = np.atleast_2d(np.asarray(x))
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"embeddings must be (n, dim), got shape {np.shape(x)}")
    return rows


def _finite(rows: np.ndarray, first: int = 0) -> Array:
    """A float64 copy; `first` is the index of the first row, for the message."""
    copy = np.array(rows, dtype=np.float64)
    finite = np.isfinite(copy).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(f"{len(bad)} embeddings have non-finite values, the first is row {first + int(bad[0])}")
    return copy


def _of_rows(rows: Array) -> Moments:
    mean = rows.mean(axis=0)
    centered = rows - mean
    keep = rows if len(rows) <= 2 * rows.shape[1] else None
    return Moments(len(rows), mean, centered.T @ centered, keep)


def _merged(a: Moments, b: Moments) -> tuple[int, Array, Array, Array | None]:
    """Chan's update; an empty side leaves the other as it is."""
    if a.n == 0 or b.n == 0:
        full = b if a.n == 0 else a
        return full.n, full.mean, full.scatter, full.rows
    n = a.n + b.n
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.n / n)
    scatter = a.scatter + b.scatter + np.outer(delta, delta * (a.n * b.n / n))
    rows = None
    if a.rows is not None and b.rows is not None and n <= 2 * a.dim:
        rows = np.concatenate([a.rows, b.rows])
    return n, mean, scatter, rows
