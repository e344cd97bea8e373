"""How fast the systems of the tables run on this machine.

These are times, which differ from run to run, so they stand beside the tables (`cost.json`) and not in them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.store.store import Store
from benchmarks.tables.text import markdown_table


def cost_record(store: Store, names: Iterable[str]) -> dict[str, Any]:
    """What `cost.json` holds: CPU seconds per second of audio, by system and by stage, one thread.

    Args:
        store: knows the rates of what it has measured.
        names: systems, in the order of the tables.
    """
    rates = store.rates()
    systems = {
        name: {
            "cpu_seconds_per_second": float(f"{rates['reconstruct', name]:.3g}"),
            "real_time_factor": float(f"{1 / rates['reconstruct', name]:.3g}"),
        }
        for name in dict.fromkeys(names)
        if rates.get(("reconstruct", name), 0) > 0
    }
    stages: dict[str, dict[str, float]] = {}
    for (stage, name), rate in sorted(rates.items()):
        if rate > 0:
            stages.setdefault(stage, {})[name] = float(f"{rate:.3g}")
    return {
        "systems": systems,
        "stages": stages,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, one thread per clip",
    }


def cost_markdown(costs: Mapping[str, Any]) -> str:
    """The speed of the systems, for the terminal."""
    rows = [
        [name, f"{values['real_time_factor']:g} x", f"{values['cpu_seconds_per_second'] * 1000:g} ms"]
        for name, values in costs["systems"].items()
    ]
    title = f"Speed of encoding and decoding on this machine ({costs['machine']}; loading included)"
    return f"{title}\n\n{markdown_table(['', 'real time', 'CPU per second of audio'], rows)}\n"
