"""Over 300 hostile inputs: a clear error or a right result, never a deep traceback, never a half-written file."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hostile_inputs import ARRAYS, FILES, LATENTS, RATE, RATES, checkpoints, latents_file, sound  # noqa: E402

from m2l import CheckpointError, Music2Latent, WeightsNotFoundError, audio_files  # noqa: E402
from m2l.audio import resampled_length  # noqa: E402
from m2l.cli.main import main  # noqa: E402
from m2l.io.blocks import read_audio, write_audio  # noqa: E402
from m2l.io.latents import LatentsError, LatentsReader, is_latents  # noqa: E402
from m2l.io.sound import audio_info  # noqa: E402

TINY = ["--checkpoint", "random:tiny"]


@pytest.fixture(scope="module")
def model() -> Music2Latent:
    return Music2Latent.from_config("tiny")


def assert_clear(error: BaseException) -> None:
    """An error of ours: one line or two that say what is wrong, raised by this package and not below it."""
    assert isinstance(error, (ValueError, OSError)), repr(error)
    text = str(error)
    assert 10 <= len(text) < 600, text
    frame = error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    where = frame.tb_frame.f_code.co_filename
    ours = f"{os.sep}m2l{os.sep}" in where
    # The operating system's own words on a path are as clear as it gets.
    assert ours or isinstance(error, OSError), f"raised in {where}: {text}"


def run(capsys, *arguments: object) -> tuple[int, str]:
    """Run the command line; its exit code and what it said on stderr, which never is a traceback."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert code in (0, 1, 2, 3)
    assert "Traceback" not in said
    assert (code == 0) or said.strip()
    return code, said


def no_litter(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


# --- arrays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("method", ["encode", "features", "reconstruct"])
def test_arrays(model, name: str, method: str) -> None:
    array, expected = ARRAYS[name]
    if expected == "error":
        with pytest.raises((ValueError, OSError)) as caught:
            getattr(model, method)(array, RATE)
        assert_clear(caught.value)
        return
    out = getattr(model, method)(array, RATE)
    assert isinstance(out, torch.Tensor) == isinstance(array, torch.Tensor)
    values = np.asarray(out.detach() if isinstance(out, torch.Tensor) else out)
    assert np.isfinite(values).all()
    shape = np.shape(array)
    if method == "reconstruct":
        assert values.shape == shape
        assert np.abs(values).max() <= 1
    else:
        rows = model.config.latent_dim if method == "encode" else model.config.feature_dim
        assert values.shape == (*shape[:-1], rows, model.n_latents(shape[-1]))


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("method", ["encode", "reconstruct"])
def test_sample_rates(model, rate, method: str) -> None:
    audio = sound(1, 3000)
    if RATES[rate] == "error":
        with pytest.raises((ValueError, OSError)) as caught:
            getattr(model, method)(audio, rate)
        assert_clear(caught.value)
    elif method == "encode":
        samples = resampled_length(3000, int(rate), RATE)
        assert model.encode(audio, rate).shape == (1, 64, model.n_latents(samples))
    else:
        assert model.reconstruct(audio, rate).shape == (1, 3000)


# --- audio files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES, ids=lambda name: name[:30].encode("ascii", "replace").decode())
def test_audio_files(tmp_path, capsys, name: str) -> None:
    make, expected = FILES[name]
    path = tmp_path / "in" / name
    path.parent.mkdir()
    make(path)
    latents, out = tmp_path / "z.safetensors", tmp_path / "out.wav"
    if expected == "ok":
        audio, rate = read_audio(path)
        assert np.isfinite(audio).all()
        assert run(capsys, "info", path)[0] == 0 or path.suffix.lower() != ".wav"
        assert run(capsys, "encode", "-o", latents, *TINY, "--", path)[0] == 0
        assert run(capsys, "decode", latents, "-o", out)[0] == 0
        info = audio_info(out)
        assert (info.sample_rate, info.channels, info.frames) == (rate, *audio.shape)
    else:
        with pytest.raises((ValueError, OSError)) as caught:
            read_audio(path)
        assert_clear(caught.value)
        for command, target in (("encode", latents), ("reconstruct", out)):
            code, said = run(capsys, command, "-o", target, *TINY, "--", path)
            # What is no file at all is missing data; what is one, but bad, is a failed file.
            assert code == (1 if path.is_file() else 3)
            assert path.name in said or path.is_dir()
            assert not target.exists()
    no_litter(tmp_path)


def test_a_folder_of_all_of_them(tmp_path, capsys) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (make, _) in FILES.items():
        make(folder / name)
    code, _ = run(capsys, "encode", folder, "-o", tmp_path / "out", *TINY, "--quiet")
    assert code == 1
    made = len(list((tmp_path / "out").rglob("*.safetensors")))
    # All good ones but the one without a suffix, which only counts as audio if it is named.
    assert made == sum(expected == "ok" for _, expected in FILES.values()) - 1
    no_litter(tmp_path)
    again, _ = run(capsys, "encode", folder, "-o", tmp_path / "out", *TINY, "--quiet")
    assert again == 1


# --- latents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "latents",
    [
        np.zeros(64, np.float32),
        np.zeros((64, 0), np.float32),
        np.zeros((0, 64, 5), np.float32),
        np.zeros((1, 63, 5), np.float32),
        np.zeros((1, 5, 64), np.float32),
        np.zeros((1, 64, 5), np.int32),
        np.zeros((1, 64, 5), np.complex64),
        np.full((1, 64, 5), np.nan, np.float32),
        np.full((1, 64, 5), np.inf, np.float32),
        torch.full((64, 5), float("nan")),
        torch.zeros(1, 64, 5, dtype=torch.int64),
    ],
    ids=lambda latents: f"{tuple(latents.shape)}-{latents.dtype}",
)
def test_latents_of_wrong_shape_or_kind(model, latents) -> None:
    with pytest.raises(ValueError, match="latents") as caught:
        model.decode(latents)
    assert_clear(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"length": 0},
        {"length": -1},
        {"n_steps": 0},
        {"seed": -1},
        {"sample_rate": 0.5},
        {"sample_rate": -1},
        {"noise": torch.zeros(1, 2, 1024, 7)},
        {"noise": torch.full((1, 2, 1024, 16), float("nan"))},
    ],
    ids=lambda options: str(next(iter(options.items())))[:30],
)
def test_decode_options(model, options) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
        model.decode(np.zeros((1, 64, 2), np.float32), **options)
    assert_clear(caught.value)


@pytest.mark.parametrize("name", LATENTS)
def test_latents_files(tmp_path, capsys, model, name: str) -> None:
    content, expected = LATENTS[name]
    path, out = tmp_path / "z.safetensors", tmp_path / "out.wav"
    path.write_bytes(content)
    code, said = run(capsys, "decode", path, "-o", out, "--force")
    if expected == "ok":
        assert code == 0
        with LatentsReader(path) as reader:
            assert audio_info(out).frames == reader.info.samples
    else:
        assert code in (1, 3)
        assert "z.safetensors" in said or "/nowhere/model" in said
        assert not out.exists()
        if name not in ("no checkpoint", "missing checkpoint"):
            with pytest.raises(LatentsError) as caught:
                audio_files.decode_file(model, path, out)
            assert_clear(caught.value)
    no_litter(tmp_path)


# --- checkpoints -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad_checkpoints(tmp_path_factory, model) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    model.save_pretrained(folder / "good")
    return {"folder": folder, **checkpoints(folder / "good", folder)}


CHECKPOINTS = [
    "empty folder", "config alone", "empty weights", "cut weights", "zeroed header", "text for weights",
    "pickle named safetensors", "NaN weight", "config no JSON", "config a list", "config with unknown field",
    "config of another size", "config with a text", "config negative", "config zero hop", "config without levels",
    "config nested", "config null", "malicious.pt", "malicious zip.pt", "no state dict.pt", "empty state dict.pt",
    "a list.pt", "other weights.pt", "numbers for tensors.pt", "empty.pt", "text.pt", "cut.pt", "model.onnx",
    "no config.safetensors",
]  # fmt: skip


def test_all_checkpoints_are_tried(bad_checkpoints) -> None:
    assert {"folder", *CHECKPOINTS} == set(bad_checkpoints)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(bad_checkpoints, capsys, tmp_path, name: str) -> None:
    path = bad_checkpoints[name]
    with pytest.raises((CheckpointError, WeightsNotFoundError)) as caught:
        Music2Latent.from_pretrained(path)
    assert_clear(caught.value)
    write_audio(tmp_path / "a.wav", sound(), RATE)
    code, said = run(capsys, "encode", tmp_path / "a.wav", "-o", tmp_path / "z.safetensors", "--checkpoint", path)
    assert code == 3
    assert str(path) in said
    assert sorted(os.listdir(tmp_path)) == ["a.wav"]
    assert not (bad_checkpoints["folder"] / "CODE WAS RUN").exists()


# --- the disk and its permissions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".safetensors"])
@pytest.mark.parametrize("limit", [10, 1_000, 20_000])
def test_a_file_that_may_not_grow(tmp_path, suffix: str, limit: int) -> None:
    """RLIMIT_FSIZE makes writes fail half-way, as a full disk does; libsndfile reports it in its own ways."""
    script = (
        "import resource, sys, numpy as np\n"
        "from m2l.io.blocks import write_audio\n"
        "from m2l.io.latents import LatentsInfo, write_latents\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "audio = np.random.default_rng(0).uniform(-1, 1, (2, 60_000)).astype('float32')\n"
        "try:\n"
        "    if sys.argv[1].endswith('.safetensors'):\n"
        "        info = LatentsInfo(1, 64, 400, 44100, 1600000, 44100, 4096, 'tiny', '', '', 'a')\n"
        "        write_latents(sys.argv[1], audio.ravel()[:25600].reshape(1, 64, 400), info)\n"
        "    else:\n"
        "        write_audio(sys.argv[1], audio, 44100)\n"
        "except OSError as error:\n"
        "    assert 'cannot write' in str(error), error\n"
        "    sys.exit(7)\n"
    )
    target = tmp_path / f"a{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", script, str(target), str(limit)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 7, done.stderr
    assert not done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_a_full_disk_stops_a_folder_run(tmp_path, capsys, monkeypatch, command: str) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_audio(tmp_path / "in" / f"{number}.wav", sound(), RATE)
    real = os.replace

    def full(source, target) -> None:
        if Path(target).stem == "1":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    code, said = run(capsys, command, tmp_path / "in", "-o", tmp_path / "out", *TINY)
    assert code == 1
    assert "No space left" in said
    made = [path.stem for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    assert made == ["0"]
    no_litter(tmp_path)


@pytest.fixture
def unprivileged(tmp_path):
    """Permissions mean nothing to root: be nobody for a while."""
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        if folder.owner() != "root" or os.geteuid() != 0 or folder == Path("/tmp"):
            break
        folder.chmod(0o777)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_no_permission_to_read(tmp_path, capsys, unprivileged, command: str) -> None:
    path = tmp_path / "secret.wav"
    write_audio(path, sound(), RATE)
    path.chmod(0)
    target = tmp_path / ("z.safetensors" if command == "encode" else "b.wav")
    code, said = run(capsys, command, path, "-o", target, *TINY)
    assert code == 1
    assert "Permission denied" in said
    assert "secret.wav" in said
    assert not target.exists()


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_no_permission_to_write(tmp_path, capsys, unprivileged, command: str, as_folder: bool) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, sound(), RATE)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    target = locked / "out" if as_folder else locked / ("z.safetensors" if command == "encode" else "b.wav")
    code, said = run(capsys, command, path, "-o", target, *TINY)
    assert code in (1, 2)
    assert "Permission denied" in said
    assert os.listdir(locked) == []


@pytest.mark.parametrize("target", ["nowhere/b.wav", "a.wav/b.wav", "folder.wav", "x" * 300 + ".wav"])
def test_targets_that_cannot_be(tmp_path, capsys, target: str) -> None:
    write_audio(tmp_path / "a.wav", sound(), RATE)
    (tmp_path / "folder.wav").mkdir()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises((ValueError, OSError)) as caught:
        write_audio(tmp_path / target, sound(), RATE)
    assert_clear(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(".mp3", 96_000, 2), (".mp3", 44_100, 3), (".opus", 44_100, 2), (".flac", 44_100, 9), (".flac", 1_000_000, 1)],
)
def test_formats_say_what_they_cannot_hold(tmp_path, suffix: str, rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match=rf"{channels} channels at {rate} Hz"):
        write_audio(tmp_path / f"a{suffix}", sound(channels), rate)
    assert os.listdir(tmp_path) == []


def test_an_input_that_vanishes_during_the_run(tmp_path, capsys, monkeypatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        write_audio(folder / f"{number}.wav", sound(), RATE)
    real = audio_files.encode_file

    def vanishing(*args, **options):
        (folder / "1.wav").unlink(missing_ok=True)
        return real(*args, **options)

    monkeypatch.setattr(audio_files, "encode_file", vanishing)
    code, said = run(capsys, "encode", folder, "-o", tmp_path / "out", *TINY)
    assert code == 1
    assert "1.wav" in said
    assert {path.stem for path in (tmp_path / "out").glob("*.safetensors")} == {"0", "2"}


def test_a_latents_file_cannot_make_decode_use_memory_it_does_not_hold(tmp_path, capsys) -> None:
    (tmp_path / "z.safetensors").write_bytes(latents_file(samples=str(2**46), n_latents=str(2**34)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, _ = run(capsys, "decode", tmp_path / "z.safetensors", "-o", tmp_path / "a.wav")
    assert code == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_pipe_is_no_latents_file_and_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert not is_latents(tmp_path / "pipe.safetensors")
    with pytest.raises(LatentsError, match="not a regular file"):
        LatentsReader(tmp_path / "pipe.safetensors")
