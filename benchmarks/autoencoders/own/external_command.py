"""`external-command:TEMPLATE`: a program run once per clip, in its own environment.

For packages whose pins clash with ours: `external-command:/opt/env/bin/python codec.py {input} {output}`.
Traps handled here: our own virtual environment leaking into the program's, a program that hangs (its whole
process group is ended), output at the program's own rate (resampled), no output in spite of exit status 0.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.autoencoders.own.adapted import with_channels
from benchmarks.autoencoders.own.external import wav_bytes
from benchmarks.datasets.audio_files import read_excerpt
from benchmarks.store.fingerprint import digest
from m2l.audio import check_audio, fit_length, resample
from m2l.io.digest import known_sha256
from m2l.processes import GUARD

TIMEOUT = 600.0
#: A decoder may drop this many seconds of a clip's end; more is an error.
MISSING_SECONDS = 0.5

#: Variables that would make another Python or virtual environment take ours for its own.
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True)
class Output:
    """What a run of the command wrote: audio `(channels, samples)` at the clip's rate, and its bit rate."""

    audio: np.ndarray
    bitrate: float | None


class ExternalCommand:
    """A program as an autoencoder.

    Args:
        template: the command line, split as a shell does but run without one. `{input}` is the clip as a WAV
            file (float32), `{output}` the audio file to write. Optional: `{latents}`, a file for the latents
            or the bit stream, whose size gives the bit rate; `{seed}`, a number below 2^31 per clip.
        name: what the tables call the system.
        timeout: seconds that one clip may take.
        sample_rate: rate of `{input}`; None: the clip's own.
        channels: "mono" folds the clip first, "stereo" repeats a mono clip, "per_channel" runs once per channel.
        version: anything that changes when the program does and the template does not. With one, results are
            kept for later runs; without, each run measures anew, as nobody sees what a program reads.

    Files named in the template (a script, weights) are part of the content key by their digest.

    Raises:
        ValueError: a placeholder is missing or unknown, or the template cannot be split.
        FileNotFoundError: the program does not exist.
    """

    def __init__(
        self,
        template: str,
        name: str | None = None,
        *,
        timeout: float = TIMEOUT,
        sample_rate: int | None = None,
        channels: str = "per_channel",
        version: str | int | None = None,
    ) -> None:
        try:
            self.words = shlex.split(template)
        except ValueError as error:
            raise ValueError(f"command {template!r}: {error}") from None
        for needed in ("{input}", "{output}"):
            if not any(needed in word for word in self.words):
                raise ValueError(f"command {template!r} has no {needed}")
        self.writes_latents = any("{latents}" in word for word in self.words)
        if self.writes_latents and any("{seed}" in word for word in self.words):
            raise ValueError(f"command {template!r}: {{latents}} and {{seed}} do not go together")
        if timeout <= 0:
            raise ValueError(f"timeout is {timeout}, expected more than 0 seconds")
        if shutil.which(self.words[0]) is None:
            raise FileNotFoundError(f"no program {self.words[0]!r} (of the command {template!r})")
        self.timeout = float(timeout)
        files = {word: known_sha256(word) for word in self.words if Path(word).is_file()}
        self.spec = AutoencoderSpec(
            name=name or Path(self.words[0]).name,
            sample_rate=sample_rate,
            channels=channels,
            # The true rate is measured from the bytes of every clip; this only says that there is one.
            bitrate=0.0 if self.writes_latents else None,
            source=f"command {Path(self.words[0]).name}",
            weights_digest=digest(files) if files else None,
            version="1" if version is None else str(version),
            options={"template": digest(self.words), "timeout": self.timeout},
        )

    def encode(self, audio: np.ndarray, sample_rate: int) -> Output:
        """Run the command (one run encodes and decodes) and keep what it wrote."""
        return self._run_all(check_audio(audio, sample_rate), sample_rate, seed=0)

    def decode(
        self, latents: Output, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """The audio of that run, `(channels, length)`."""
        return np.ascontiguousarray(fit_length(latents.audio, length))

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Encode and decode by one run of the command per clip (per channel, if the spec says so).

        Raises:
            RuntimeError: exit status other than 0 (with the last line of stderr), or over the time limit.
            ValueError: the output is missing, not audio, or over half a second short.
        """
        return self._run_all(check_audio(audio, sample_rate), sample_rate, seed).audio

    def _run_all(self, audio: np.ndarray, sample_rate: int, seed: int) -> Output:
        if self.spec.channels == "per_channel":
            runs = [self._run(channel[None], sample_rate, seed + i) for i, channel in enumerate(audio)]
            joined = np.concatenate([run.audio for run in runs])
            rates = [run.bitrate for run in runs if run.bitrate is not None]
            return Output(joined, sum(rates) if rates else None)
        if self.spec.channels == "stereo" and audio.shape[0] > 2:
            raise ValueError(f"{audio.shape[0]} channels: {self.spec.name} takes one or two")
        given = with_channels(audio, 1 if self.spec.channels == "mono" else 2)
        done = self._run(given, sample_rate, seed)
        return Output(with_channels(done.audio, audio.shape[0]), done.bitrate)

    def _run(self, audio: np.ndarray, sample_rate: int, seed: int) -> Output:
        rate = self.spec.sample_rate or sample_rate
        with GUARD.temporary_folder("m2l-command-") as folder:
            places = {name: folder / file for name, file in _FILES.items()}
            places["input"].write_bytes(wav_bytes(resample(audio, sample_rate, rate, exact=False), rate))
            values = {name: str(path) for name, path in places.items()} | {"seed": str(seed % 2**31)}
            run_command([_filled(word, values) for word in self.words], self.timeout)
            if not places["output"].is_file():
                raise ValueError("the command succeeded and wrote no {output}")
            try:
                output, output_rate = read_excerpt(places["output"])
            except ValueError as error:
                raise ValueError(str(error).replace(str(places["output"]), "{output}")) from error
            size = places["latents"].stat().st_size if places["latents"].is_file() else None
        if self.writes_latents and size is None:
            raise ValueError("the command succeeded and wrote no {latents}")
        seconds = audio.shape[1] / sample_rate
        if seconds - output.shape[1] / output_rate > MISSING_SECONDS:
            raise ValueError(f"{{output}} lasts {output.shape[1] / output_rate:.2f} s for {seconds:.2f} s")
        output = with_channels(resample(output, output_rate, sample_rate, exact=False), audio.shape[0])
        fit = np.ascontiguousarray(fit_length(output, audio.shape[1]), dtype=np.float32)
        return Output(fit, None if size is None else 8.0 * size / seconds)


_FILES = {"input": "input.wav", "output": "output.wav", "latents": "latents.bin"}


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


def run_command(words: list[str], timeout: float) -> None:
    """Run a program without a shell, in its own process group, away from our virtual environment.

    Raises:
        RuntimeError: exit status other than 0, or the time is up; the message holds the end of stderr.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=clean_environment(),
        start_new_session=True,
    )
    try:
        with GUARD.group(process.pid):
            _, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end_group(process)
        raise RuntimeError(f"the command was ended after {timeout:g} s") from None
    except BaseException:
        _end_group(process)
        raise
    if process.returncode:
        status = process.returncode
        how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
        said = [line.strip() for line in stderr.splitlines() if line.strip()]
        raise RuntimeError(f"the command failed ({how}): {said[-1] if said else 'nothing on stderr'}")


def _end_group(process: subprocess.Popen[str]) -> None:
    """End the program and what it started; a grandchild that keeps stderr open would block us for ever."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def clean_environment() -> dict[str, str]:
    """Our environment without what makes a foreign interpreter use our packages."""
    env = {name: value for name, value in os.environ.items() if name not in _OURS}
    if own := os.environ.get("VIRTUAL_ENV"):
        folders = [f for f in env.get("PATH", "").split(os.pathsep) if not f.startswith(own)]
        env["PATH"] = os.pathsep.join(folders)
    return env
