"""Names of files for clips, and clips for the names of files: one file for one clip, never another clip's.

Names keep the letters of any script. Where two names would become one (on some file systems also by their case or
by how accents are composed), a digest of each keeps them apart.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES

#: What earlier exports replaced; their files are still found.
_UNSAFE_BEFORE = re.compile(r"[^\w.@+=,-]+", re.ASCII)
#: Bytes of a name. File systems take 255, and suffixes and names beside it need some.
_LONGEST = 180


def as_text(name: str) -> str:
    """A file name that can be written anywhere: bytes that are no UTF-8 become `\\xff`, other names stay."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def safe_name(text: str) -> str:
    """`text` as a file name: letters, marks and digits of any script and `_.@+=,-` are kept, others become `_`.

    Different texts may give one name: see `distinct`.
    """
    kept = [c if c in "_.@+=,-" or unicodedata.category(c)[0] in "LMN" else "\0" for c in nfc(text)]
    name = re.sub("\0+", "_", "".join(kept)).lstrip(".") or "_"
    if len(name.encode()) <= _LONGEST:
        return name
    return f"{name.encode()[:_LONGEST].decode(errors='ignore')}-{_digest(text)}"


def file_stem(clip_id: str) -> str:
    """File name, without suffix, of a clip: folders become `__`."""
    return safe_name(clip_id.replace("/", "__"))


def _stem_before(clip_id: str) -> str:
    """What earlier exports called a clip."""
    parts = [_UNSAFE_BEFORE.sub("_", part) for part in clip_id.split("/")]
    return "__".join(parts).lstrip(".") or "_"


def nfc(text: str) -> str:
    """Composed Unicode, so that a name is the same on all systems."""
    return unicodedata.normalize("NFC", text)


def folded(name: str) -> str:
    """A name as the least distinguishing file systems see it."""
    return nfc(nfc(name).casefold())


def without_suffix(name: str, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> str:
    """The name without a suffix of audio files: `song.flac` -> `song`."""
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in suffixes else name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def with_digest(name: str, text: str) -> str:
    """`name` with a digest of the text that it was made from."""
    return f"{name}-{_digest(text)}"


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Text -> name, where names that some file system takes for one get a digest of their text."""
    clashing = _clashes(names)
    return {text: with_digest(name, text) if text in clashing else name for text, name in names.items()}


def _clashes(names: Mapping[str, str]) -> set[str]:
    """The texts whose name others have, too."""
    found: dict[str, list[str]] = {}
    for text, name in names.items():
        found.setdefault(folded(name), []).append(text)
    return {text for texts in found.values() if len(texts) > 1 for text in texts}


def export_stems(clip_ids: Iterable[str]) -> dict[str, str]:
    """Clip id -> file name without suffix, different for every id on any file system.

    Ids lose the suffix of audio files unless they differ only in it (`a.wav`, `a.ogg`).
    """
    ids = list(dict.fromkeys(clip_ids))
    stems = {clip_id: file_stem(without_suffix(clip_id)) for clip_id in ids}
    for _ in range(2):  # what has its suffix again may be the name of another
        stems |= {clip_id: file_stem(clip_id) for clip_id in _clashes(stems)}
    stems = distinct(stems)
    # A file `a.wav` of clip `a` could be taken for the file of another clip called `a.wav`.
    exact = _Exact(ids)
    taken = {clip_id for clip_id, stem in stems.items() if exact.claims(f"{stem}.wav") - {clip_id}}
    stems |= {clip_id: with_digest(stems[clip_id], clip_id) for clip_id in taken}
    return distinct(stems)


class _Exact:
    """Clips by their own names: with the suffix of their audio file, and without it."""

    def __init__(self, clip_ids: Iterable[str], form: Callable[[str], str] = str) -> None:
        self.form = form
        self.whole = _index(clip_ids, form)
        self.short = _index(clip_ids, lambda clip_id: form(without_suffix(clip_id)))

    def claims(self, name: str) -> set[str]:
        """Clips whose file `name` is: `a.wav` of clip `a.wav`, else of `a`, else of `a.flac`."""
        name = self.form(name)
        short = without_suffix(name)
        return self.whole.get(name) or self.whole.get(short) or self.short.get(short) or set()


def _index(clip_ids: Iterable[str], key: Callable[[str], str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for clip_id in clip_ids:
        found.setdefault(key(clip_id), set()).add(clip_id)
    return found


@dataclass(frozen=True)
class Matches:
    """Which file belongs to which clip.

    Attributes:
        files: clip id -> its file, relative to the folder.
        refused: clip id -> why it has none: none was found, or it is not clear which.
        strays: files that belong to no clip.
    """

    files: Mapping[str, str]
    refused: Mapping[str, str]
    strays: tuple[str, ...]


def match(clip_ids: Iterable[str], names: Iterable[str]) -> Matches:
    """Divide files among clips, the clip's own name first, then the names of exports.

    Args:
        clip_ids: all clips of a data set: whose file one is cannot be told from a part of them.
        names: audio files, relative to their folder, with `/`.
    """
    ids = list(dict.fromkeys(clip_ids))
    stems = export_stems(ids)
    exports = _index(ids, lambda clip_id: folded(stems[clip_id]))
    # Earlier exports may have given one name to several clips: that is then not clear.
    before = _index(ids, lambda clip_id: _stem_before(without_suffix(clip_id)))
    before_full = _index(ids, _stem_before)
    exact, composed = _Exact(ids), _Exact(ids, nfc)
    files: dict[str, list[str]] = {}
    unclear: dict[str, tuple[str, set[str]]] = {}
    strays: list[str] = []
    for name in names:
        short = without_suffix(name)
        owners = (
            exact.claims(name)
            or exports.get(folded(short))
            or composed.claims(name)
            or before_full.get(short)
            or before.get(short)
            or set()
        )
        if not owners:
            strays.append(name)
        elif len(owners) > 1:
            unclear |= dict.fromkeys(owners, (name, owners))
        else:
            files.setdefault(next(iter(owners)), []).append(name)
    refused: dict[str, str] = {}
    for clip_id in ids:
        own = files.get(clip_id, [])
        if len(own) > 1:
            refused[clip_id] = f"{len(own)} files for the clip ({', '.join(sorted(own))})"
        elif not own and clip_id in unclear:
            name, owners = unclear[clip_id]
            refused[clip_id] = f"{name} may belong to clips {' and '.join(map(repr, sorted(owners)))}"
        elif not own:
            refused[clip_id] = "no file for the clip"
    return Matches({i: own[0] for i, own in files.items() if i not in refused}, refused, tuple(strays))
