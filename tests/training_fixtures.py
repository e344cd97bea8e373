"""Fixtures that the tests of training share; a module imports those it uses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from training_helpers import moved_checkpoint, music_and_speech, tiny, train


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two corpora, of different rates and channel numbers."""
    return music_and_speech(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def moved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint in which every weight has a gradient."""
    return moved_checkpoint(tmp_path_factory.mktemp("moved"))


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, data: tuple[str, str]) -> Path:
    """A run of 6 steps with checkpoints of steps 2, 4 and 6."""
    run = tmp_path_factory.mktemp("straight")
    train(tiny(data), run)
    return run


@pytest.fixture
def run(straight: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(straight, tmp_path / "run"))
