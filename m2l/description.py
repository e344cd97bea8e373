"""What a model is, as facts, as a few lines of text, and as a table for notebooks."""

from __future__ import annotations

import html
from typing import Any

from m2l.config import Music2LatentConfig


def describe(config: Music2LatentConfig, *, weights: str, license: str, parameters: int, digest: str) -> dict[str, Any]:
    """The facts that `m2l info` prints: preset, weights and license, parameters, rates (Hz), dimensions, digest."""
    return {
        "preset": config.name,
        "weights": weights,
        "license": license,
        "parameters": parameters,
        "sample_rate": config.sample_rate,
        "latent_dim": config.latent_dim,
        "latent_rate": config.latent_rate,
        "downsampling_ratio": config.downsampling_ratio,
        "compression_ratio": config.compression_ratio,
        "latent_scale": config.latent_scale,
        "feature_dim": config.feature_dim,
        "digest": digest,
    }


def as_text(name: str, facts: dict[str, Any], place: str) -> str:
    """The most important facts on a line each, below the class's name; `place` is precision and device."""
    return name + "".join(f"\n  {key:<8} {text}" for key, text in _rows(facts, place).items())


def as_html(name: str, facts: dict[str, Any], place: str) -> str:
    """The same as an HTML table."""
    rows = (f"<tr><th>{key}</th><td>{html.escape(text)}</td></tr>" for key, text in _rows(facts, place).items())
    return f"<table><caption>{html.escape(name)}</caption>{''.join(rows)}</table>"


def _rows(facts: dict[str, Any], place: str) -> dict[str, str]:
    license = facts["license"]
    return {
        "preset": f"{facts['preset']}, {facts['parameters']:,} parameters, {place}",
        "latents": f"{facts['latent_dim']} at {facts['latent_rate']:.2f} Hz, from audio at {facts['sample_rate']} Hz",
        "weights": (facts["weights"] or "of no checkpoint") + (license and f" (license: {license})"),
        "digest": facts["digest"][:12],
    }
