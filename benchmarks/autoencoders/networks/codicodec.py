"""CoDiCodec's network out of the installed package `codicodec`, without running the package.

`import codicodec` imports librosa and a class whose constructor downloads. The network lives in modules that
need neither, and takes its sizes from the module `hparams`. So its modules are imported as those of a package of our
own name, once per configuration, with the sizes set in between.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.store.fingerprint import digest


def build_network(config: Mapping[str, Any]) -> torch.nn.Module:
    """A network with random weights.

    Args:
        config: entries of the package's `hparams` to change; empty for the published network.

    Raises:
        ImportError: the package is not installed.
        ValueError: `hparams` has no such entry.
    """
    network: torch.nn.Module = _modules(config).UNet()
    return network


def _modules(config: Mapping[str, Any]) -> Any:
    """The package's module `models`, imported under a name that belongs to this configuration."""
    name = f"_m2l_codicodec_{digest(dict(config))[:12]}"
    if f"{name}.models" in sys.modules:
        return sys.modules[f"{name}.models"]
    found = importlib.util.find_spec("codicodec")
    if found is None or not found.submodule_search_locations:
        raise ImportError("codicodec is not installed: pip install --no-deps codicodec==0.1.2")
    package = types.ModuleType(name)
    package.__path__ = [str(Path(place)) for place in found.submodule_search_locations]
    sys.modules[name] = package
    # Its `audio` is the one that imports librosa; the network takes no name from it.
    sys.modules[f"{name}.audio"] = types.ModuleType(f"{name}.audio")
    sizes: Any = importlib.import_module(f"{name}.hparams")
    for key, value in config.items():
        if not hasattr(sizes, key):
            raise ValueError(f"codicodec has no hyper-parameter {key!r}")
        setattr(sizes, key, value)
    sizes.mixed_precision = False
    sizes.torch_compile_cache_dir = None  # else the package sets an environment variable
    tuning = torch.backends.cudnn.benchmark
    try:
        models: Any = importlib.import_module(f"{name}.models")
    finally:
        torch.backends.cudnn.benchmark = tuning  # the package switches it on, for everyone
    return models
