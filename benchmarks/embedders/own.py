"""A user's embedder: a class with `sample_rate` and `embed(audio)`, given what the suite needs beyond that."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.user_code import UserCodeError

if TYPE_CHECKING:
    import numpy as np


class OwnEmbedder:
    """A user's embedder behind the suite's interface (see `Embedder`).

    Args:
        made: the user's object.
        name: what tables call it.

    Raises:
        UserCodeError: it lacks `sample_rate` or `embed`.
    """

    def __init__(self, made: Any, name: str) -> None:
        self.made, self.name = made, name
        self.sample_rate = declared_rate(made, name)
        self.dim = int(getattr(made, "dim", 0))
        if not callable(getattr(made, "embed", None)):
            raise UserCodeError(f"{name}: an embedder needs a method embed(audio)")

    @property
    def spec(self) -> dict[str, Any]:
        """The user's own `spec`, if there is one."""
        found = getattr(self.made, "spec", {})
        return dict(found() if callable(found) else found)

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """(samples,) float32 mono at `sample_rate` -> (n_windows, dim) float32; one vector is one window.

        Raises:
            ValueError: the user's method returned something of another shape.
        """
        found = self.made.embed(audio)
        return self._checked(found.detach().cpu().numpy() if hasattr(found, "detach") else found)

    def embed_batch(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`embed` of each clip; by the user's own method of this name where there is one."""
        if callable(getattr(self.made, "embed_batch", None)):
            return [self._checked(found) for found in self.made.embed_batch(clips)]
        return [self.embed(clip) for clip in clips]

    def close(self) -> None:
        """The user's `close`, if there is one."""
        if callable(getattr(self.made, "close", None)):
            self.made.close()

    def _checked(self, found: Any) -> np.ndarray:
        import numpy as np  # the registry of embedders imports this module

        vectors = np.atleast_2d(np.asarray(found, dtype=np.float32))
        if vectors.ndim != 2:
            raise ValueError(f"{self.name}: embed returned shape {vectors.shape}, expected (windows, dim)")
        return vectors


def make_embedder(kind: Any, name: str, options: Mapping[str, Any]) -> OwnEmbedder:
    """Call a user's class with those of `name` and `options` that it takes."""
    parameters = inspect.signature(kind).parameters
    anything = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
    given = {"name": name, **options}
    return OwnEmbedder(kind(**{key: given[key] for key in given if anything or key in parameters}), name)


def declared_rate(kind: Any, name: str) -> int:
    """The `sample_rate` of a user's class or object.

    Raises:
        UserCodeError: it is missing, or not a positive number.
    """
    rate = getattr(kind, "sample_rate", None)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0:
        raise UserCodeError(f"{name}: sample_rate is {rate!r}, expected a rate in Hz as an attribute of the class")
    return int(rate)
