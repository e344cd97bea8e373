"""Embedders: models whose embedding spaces the corpus distances (FAD, FAD_clap, KAD) are measured in."""

from benchmarks.embedders.base import (
    Embedder,
    EmbedderEntry,
    EmbedderStatus,
    ShortClipError,
    create_embedder,
    embedder_entry,
    embedder_label,
    embedder_spec,
    embedder_status,
    list_embedders,
    register_embedder,
)

__all__ = [
    "Embedder",
    "EmbedderEntry",
    "EmbedderStatus",
    "ShortClipError",
    "create_embedder",
    "embedder_entry",
    "embedder_label",
    "embedder_spec",
    "embedder_status",
    "list_embedders",
    "register_embedder",
]
