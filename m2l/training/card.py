"""A model card as the page that a model hub shows: README.md with a header of metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

TAGS = ("audio", "music", "autoencoder", "consistency-model")


def readme_of(card: Mapping[str, Any]) -> str:
    """The text of README.md for a card of `m2l.training.export.export`; facts that it lacks are left out."""
    return "\n".join([*_header(card), "", *_body(card)]) + "\n"


def _header(card: Mapping[str, Any]) -> Iterator[str]:
    # Values in JSON are YAML, too, whatever they hold.
    yield "---"
    if card.get("license"):
        yield f"license: {json.dumps(str(card['license']).lower())}"
    yield "library_name: m2l"
    yield f"tags: {json.dumps(TAGS)}"
    yield "---"


def _body(card: Mapping[str, Any]) -> Iterator[str]:
    name = card.get("name", "model")
    yield from (f"# {name}", "", "A Music2Latent autoencoder: 44.1 kHz audio to 64-dimensional latents and back.", "")
    yield from ("```python", "import m2l", "", 'model = m2l.load("PATH_OF_THIS_FOLDER")', "```", "")

    # What it is and how it was trained.
    yield from ("| | |", "| --- | --- |")
    facts = {
        "architecture": card.get("architecture"),
        "parameters": f"{card['parameters']:,}" if "parameters" in card else None,
        "precision of the weights": card.get("dtype"),
        "license": card.get("license"),
        "steps": card.get("steps"),
        "batch": f"{card['batch_size']} crops of {card['crop_seconds']} s" if "crop_seconds" in card else None,
        "hours of training": card.get("hours"),
        "seed": card.get("seed"),
    }
    yield from (f"| {title} | {value} |" for title, value in facts.items() if value not in (None, ""))

    # On what, with which result.
    if names := card.get("training_datasets"):
        licenses = card.get("dataset_licenses") or {}
        yield from ("", "## Training data", "")
        yield from (f"- {one}" + (f" ({licenses[one]})" if one in licenses else "") for one in names)
    measured = {name: values for name, values in (card.get("metrics") or {}).items() if isinstance(values, Mapping)}
    if measured:
        yield from ("", "## Results", "", "| measured on | metric | value |", "| --- | --- | --- |")
        yield from (f"| {where} | {key} | {value} |" for where, row in measured.items() for key, value in row.items())
    for note in card.get("notes") or ():
        yield from ("", str(note))
