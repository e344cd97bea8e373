"""Registries: lazy, and helpful when a name is wrong."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.registry import Registry, UnknownNameError, load_target


def test_registering_and_listing_import_nothing() -> None:
    registry = Registry("thing")
    registry.register("broken", "no.such.module:Thing")
    registry.register("a", "this:s")
    assert registry.names() == ["a", "broken"]
    assert "no" not in sys.modules
    assert "a" in registry
    assert "b" not in registry
    with pytest.raises(ModuleNotFoundError):
        registry.create("broken")


def test_create_passes_options_even_one_called_name() -> None:
    registry = Registry("thing")
    registry.register("dict", "builtins:dict")
    assert registry.create("dict", name="x", size=3) == {"name": "x", "size": 3}


@given(st.sampled_from(["opus-96k", "opus-16k", "music2latent"]), st.integers(0, 7))
def test_a_typo_gets_the_name_it_meant(name: str, position: int) -> None:
    registry = Registry("autoencoder")
    for known in ("opus-96k", "opus-16k", "music2latent", "identity"):
        registry.register(known, "builtins:dict")
    typo = name[:position] + "~" + name[position + 1 :]
    with pytest.raises(UnknownNameError, match="unknown autoencoder") as caught:
        registry.create(typo)
    assert name in caught.value.near
    assert repr(name) in str(caught.value)


def test_a_hopeless_name_gets_the_whole_list() -> None:
    registry = Registry("suite")
    registry.register("synthetic", "builtins:dict")
    with pytest.raises(UnknownNameError, match="known: synthetic"):
        registry.load("qqqqqq")


def test_a_name_cannot_be_taken_twice() -> None:
    registry = Registry("thing")
    registry.register("x", "builtins:dict")
    registry.register("x", "builtins:dict")
    with pytest.raises(ValueError, match="already registered"):
        registry.register("x", "builtins:list")


@pytest.mark.parametrize("target", ["", "module", "module:", ":attr"])
def test_malformed_targets(target: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        load_target(target)


def test_a_missing_attribute_is_an_import_error_that_names_it() -> None:
    with pytest.raises(ImportError, match="no attribute 'nope'"):
        load_target("json:nope")


def test_entry_points_add_names_and_own_names_win(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "m2l.autoencoders"
    points = [EntryPoint("mine", "builtins:list", group), EntryPoint("own", "builtins:list", group)]
    others = [EntryPoint("other", "builtins:list", "m2l.datasets")]
    monkeypatch.setattr("benchmarks.registry._installed", lambda: EntryPoints([*points, *others]))
    registry = Registry("autoencoder", entry_point_group="m2l.autoencoders")
    registry.register("own", "builtins:dict")
    assert registry.names() == ["mine", "own"]
    assert registry.create("mine") == []
    assert registry.create("own") == {}


def family() -> Registry:
    registry = Registry("autoencoder")
    registry.register_family("opus-{}k", "builtins:dict", "kbits", 16, 96)
    registry.register("identity", "builtins:dict")
    return registry


@pytest.mark.parametrize(
    ("name", "number"), [("opus-24k", 24), ("opus-9.2k", 9.2), ("opus-0.5k", 0.5), ("opus--3k", -3), ("opus-0k", 0)]
)
def test_a_name_of_a_family_gives_its_number(name: str, number: float) -> None:
    registry = family()
    assert name in registry
    made = registry.create(name, more=1)
    assert made == {"kbits": number, "more": 1}
    assert type(made["kbits"]) is type(number)
    assert registry.target(name) == "builtins:dict"


def test_a_family_lists_its_common_names_and_its_form() -> None:
    registry = family()
    assert registry.names() == ["identity", "opus-16k", "opus-96k"]
    assert registry.forms() == ["opus-{}k"]
    assert registry.create("opus-16k") == {"kbits": 16}


@pytest.mark.parametrize(
    "name", ["opus-016k", "opus-16.0k", "opus-16", "Opus 16k", "opus16", "OPUS-16K", "opus-16kbps"]
)
def test_a_number_in_another_spelling_gets_the_name_it_meant(name: str) -> None:
    assert name not in family()
    with pytest.raises(UnknownNameError, match=r"did you mean 'opus-16k'\?") as caught:
        family().create(name)
    assert caught.value.near == ["opus-16k"]


@pytest.mark.parametrize(
    "name", ["opus-k", "opus-1e3k", "opus-k16", "opus-nank", "opus-16\nk", "opus-٣k", "", "opus-16kk"]
)
def test_what_is_no_number_is_an_unknown_name(name: str) -> None:
    assert name not in family()
    with pytest.raises(UnknownNameError):
        family().load(name)


def test_a_number_of_a_thousand_digits_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown autoencoder"):
        family().load(f"opus-{'9' * 1000}k")
