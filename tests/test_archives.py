"""Hostile archives: each is refused with its reason, and nothing outside of the data folder changes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fetch.archives import ArchiveError, Limits, safe_name, unpack

SOUND = bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8))


def snapshot(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything below a folder: kind, mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(folder))] = (oct(kind), stat.S_IMODE(status.st_mode), content)
    return found


def info(name: str, data: bytes = SOUND, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def tar(*members: tuple[tarfile.TarInfo, bytes], pax: bool = False) -> bytes:
    out = io.BytesIO()
    form = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return out.getvalue()


def plain(*names: str) -> bytes:
    return tar(*(info(name) for name in names))


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def special(kind: bytes, name: str = "a/x.wav", link: str = "", **fields: object) -> bytes:
    return tar(info("a/good.wav"), info(name, b"", type=kind, linkname=link, **fields))


def zip_link() -> bytes:
    member = zipfile.ZipInfo("a/link.wav")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return zipped((member, b"/etc/passwd"))


def zip_encrypted() -> bytes:
    data = bytearray(zipped(("a.wav", SOUND), compression=zipfile.ZIP_STORED))
    data[6] |= 1  # local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # central directory
    return bytes(data)


def zip_with_nul() -> bytes:
    data = zipped(("evil.wavX.txt", SOUND))
    return data.replace(b"evil.wavX.txt", b"evil.wav\0.txt")


def zip_overlapping() -> bytes:
    """Two entries of the central directory that point at the same compressed bytes."""
    data = zipped(("a.wav", bytes(100_000)), ("b.wav", bytes(100_000)))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    return data[: second + 42] + struct.pack("<L", 0) + data[second + 46 :]


def zip_flipped() -> bytes:
    data = bytearray(zipped(("a.wav", SOUND), compression=zipfile.ZIP_STORED))
    data[data.index(SOUND[:16]) + 100] ^= 0xFF
    return bytes(data)


def tar_sparse() -> bytes:
    """A header of the old GNU kind that claims a file of 1 TB with nothing in it."""
    member = tarfile.TarInfo("hole.wav")
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def tar_pax_header_of_terabytes() -> bytes:
    member = tarfile.TarInfo("pax")
    member.type, member.size = b"x", 1 << 40
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def tar_with_header_damaged() -> bytes:
    data = bytearray(plain("a.wav", "b.wav"))
    data[data.index(b"b.wav") + 148] ^= 0xFF  # the second header's checksum
    return bytes(data)


def tar_gz_with_wrong_crc() -> bytes:
    data = bytearray(gzip.compress(plain("a.wav")))
    data[-8] ^= 0xFF
    return bytes(data)


PAX_ESCAPE = tar(info("innocent.wav", pax_headers={"path": "../../outside/pax.wav"}), pax=True)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "climbing path": (plain("../outside/evil.wav"), "climbs"),
    "climbing path in the middle": (plain("a/../../outside/evil.wav"), "climbs"),
    "climbing path in a zip": (zipped(("../outside/evil.wav", SOUND)), "climbs"),
    "climbing path in a PAX header": (PAX_ESCAPE, "climbs"),
    "absolute path": (plain("/tmp/m2l-evil.wav"), "absolute"),
    "absolute path in a zip": (zipped(("/tmp/m2l-evil.wav", SOUND)), "absolute"),
    "drive letter": (plain("C:/evil.wav"), "absolute"),
    "backslashes": (plain("..\\..\\outside\\evil.wav"), "backslash"),
    "symbolic link": (special(tarfile.SYMTYPE, link="/etc/passwd"), "symbolic link to '/etc/passwd'"),
    "file through a link": (
        tar(info("a", b"", type=tarfile.SYMTYPE, linkname="../outside"), info("a/evil.wav")),
        "symbolic link",
    ),
    "symbolic link in a zip": (zip_link(), "symbolic link"),
    "hard link": (special(tarfile.LNKTYPE, link="/etc/passwd"), "hard link to '/etc/passwd'"),
    "character device": (special(tarfile.CHRTYPE, devmajor=1, devminor=3), "device"),
    "block device": (special(tarfile.BLKTYPE, devmajor=8), "device"),
    "pipe": (special(tarfile.FIFOTYPE), "pipe"),
    "unknown kind": (special(b"Q"), r"of unknown type|unknown"),
    "sparse file of a terabyte": (tar_sparse(), "sparse"),
    "header of a terabyte": (tar_pax_header_of_terabytes(), "header of|damaged|cannot be read"),
    "bomb in a gzip": (gzip.compress(tar(info("a.wav", bytes(30 << 20)))), "bytes of output"),
    "bomb in a zip": (zipped(("a.wav", bytes(30 << 20))), "bytes of output"),
    "bomb of many members": (zipped(*((f"{i}.wav", b"") for i in range(300))), "more than 200 members"),
    "overlapping members": (zip_overlapping(), "overlaps 'a.wav'"),
    "name twice": (plain("a.wav", "./a.wav"), "occurs twice"),
    "names that differ in case": (plain("A/x.wav", "a/X.wav"), "only in case"),
    "names that differ in accent encoding": (plain("é.wav", "e\u0301.wav"), "only in case or accents"),
    "file and folder": (plain("a", "a/b.wav"), "both a file and a folder"),
    "name too long": (plain("x" * 300 + ".wav"), "a name of 304 bytes"),
    "path too long": (plain("/".join(["x" * 100] * 20)), "a name of"),
    "control character": (tar(info("a\x1b[2J.wav"), pax=True), "control characters"),
    "NUL in a zip's name": (zip_with_nul(), "NUL"),
    "name that is not Unicode": (plain("\udcff.wav"), "not Unicode"),
    "encrypted": (zip_encrypted(), "encrypted"),
    "truncated tar": (plain("a.wav", "b.wav")[:5000], "cannot be read|damaged|end marker"),
    "tar cut between members": (plain("a.wav", "b.wav")[:3584], "end marker|cannot be read"),
    "damaged header": (tar_with_header_damaged(), "end marker|cannot be read"),
    "truncated gzip": (gzip.compress(plain("a.wav"))[:-500], "damaged|cannot be read"),
    "wrong checksum in a gzip": (tar_gz_with_wrong_crc(), "CRC|damaged"),
    "truncated bzip2": (bz2.compress(plain("a.wav"))[:-500], "damaged|cannot be read"),
    "truncated xz": (lzma.compress(plain("a.wav"))[:-500], "damaged|cannot be read"),
    "truncated zip": (zipped(("a.wav", SOUND))[:-30], "cannot be read"),
    "wrong checksum in a zip": (zip_flipped(), "damaged .*CRC"),
    "no archive": (b"<html>404 not found</html>" * 100, "cannot be read"),
    "empty": (b"", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_change_nothing(tmp_path: Path, kind: str) -> None:
    data, reason = HOSTILE[kind]
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious.txt").write_text("untouched")
    dest = tmp_path / "deep" / "data"
    dest.mkdir(parents=True)
    (dest / "kept.wav").write_bytes(b"from before")
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    before = snapshot(tmp_path)
    with pytest.raises(ArchiveError, match=reason):
        unpack(archive, dest, limits=Limits(members=200, floor=1 << 20))
    assert snapshot(tmp_path) == before
    assert not Path("/tmp/m2l-evil.wav").exists()


@pytest.mark.parametrize("kind", ["setuid", "nested"])
def test_what_is_harmless_once_it_is_a_plain_file_is_unpacked(tmp_path: Path, kind: str) -> None:
    bomb = zipped(("inner.wav", bytes(20 << 20)))
    archive = tmp_path / "a.tar"
    archive.write_bytes(
        tar(info("a.wav", mode=0o6777, uid=0, mtime=2**33)) if kind == "setuid" else tar(info("a.zip", bomb))
    )
    (member,) = unpack(archive, tmp_path / "dest")
    path = tmp_path / "dest" / member.path
    assert stat.S_IMODE(path.stat().st_mode) & 0o7133 == 0
    assert path.read_bytes() == (SOUND if kind == "setuid" else bomb)


def test_an_existing_link_in_the_data_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "outside")
    (tmp_path / "data" / "b").mkdir()
    (tmp_path / "data" / "c").write_bytes(b"a file")
    for name, reason in (("a/x.wav", "is a link"), ("b", "it is a folder"), ("c/x.wav", "not a folder")):
        (tmp_path / "x.tar").write_bytes(plain("first.wav", name))
        with pytest.raises(ArchiveError, match=reason):
            unpack(tmp_path / "x.tar", tmp_path / "data")
    assert not list((tmp_path / "outside").iterdir())
    assert not (tmp_path / "data" / "first.wav").exists()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("packing", [*PACKERS, "zip"])
def test_good_archives_are_unpacked_with_their_digests(tmp_path: Path, packing: str) -> None:
    files = {"a/b/c.wav": SOUND, "d.wav": b"", "é ‘x’ (Mix).mp3": SOUND[:7], "Nu:Tone.wav": b"x"}
    if packing == "zip":
        data = zipped(*files.items())
    else:
        folder = info("./a", b"", type=tarfile.DIRTYPE)
        data = PACKERS[packing](tar(folder, *(info(f"./{name}", body) for name, body in files.items())))
    (tmp_path / "x").write_bytes(data)
    members = unpack(tmp_path / "x", tmp_path / "dest")
    assert {m.path: (m.size, m.sha256) for m in members} == {
        name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in files.items()
    }
    assert all((tmp_path / "dest" / name).read_bytes() == body for name, body in files.items())
    assert {p.name for p in tmp_path.iterdir()} == {"x", "dest"}


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_are_read_as_one_and_damage_is_put_down_to_its_part(tmp_path: Path, parts: int) -> None:
    rng = np.random.default_rng(1)
    files = {f"{i}.mp3": bytes(rng.integers(0, 256, 2000, dtype=np.uint8)) for i in range(8)}
    data = zipped(*files.items(), compression=zipfile.ZIP_STORED)
    step = -(-len(data) // parts)
    pieces = [tmp_path / f"mp3.zip.{i + 1:03d}" for i in range(parts)]
    for i, piece in enumerate(pieces):
        piece.write_bytes(data[i * step : (i + 1) * step])
    assert len(unpack(pieces, tmp_path / "dest")) == 8
    wrong = bytearray(pieces[1].read_bytes())
    at = data.index(files["4.mp3"]) + 1000 - step if parts == 2 else step // 2
    wrong[at] ^= 0xFF
    pieces[1].write_bytes(bytes(wrong))
    with pytest.raises(ArchiveError) as error:
        unpack(pieces, tmp_path / "other")
    assert pieces[1] in error.value.damaged
    assert len(error.value.damaged) <= 2
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").iterdir())


def test_names_of_old_zips_are_utf8_in_practice(tmp_path: Path) -> None:
    data = zipped(("é.mp3", SOUND)).replace("é".encode(), b"\xc3\xa9")
    data = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # clear the Unicode flag
        at = data.index(mark) + offset
        data[at : at + 2] = struct.pack("<H", struct.unpack("<H", data[at : at + 2])[0] & ~0x800)
    (tmp_path / "x.zip").write_bytes(bytes(data))
    assert [m.path for m in unpack(tmp_path / "x.zip", tmp_path / "dest")] == ["é.mp3"]


def test_keep_renames_and_leaves_out_but_cannot_escape_either(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(plain("root/a.wav", "root/readme.txt"))
    members = unpack(
        tmp_path / "x.tar",
        tmp_path / "dest",
        keep=lambda name: name.replace("root", "audio") if name.endswith(".wav") else None,
    )
    assert [m.path for m in members] == ["audio/a.wav"]
    with pytest.raises(ArchiveError, match="climbs"):
        unpack(tmp_path / "x.tar", tmp_path / "dest", keep=lambda name: f"../{name}")
    with pytest.raises(ArchiveError, match="occurs twice"):
        unpack(tmp_path / "x.tar", tmp_path / "dest", keep=lambda name: "one.wav")


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a" * 255, True), ("a" * 256, False), ("é" * 127 + "a", True), ("é" * 128, False),
        ("/".join(["a" * 203] * 5 + ["bbbb"]), True), ("/".join(["a" * 203] * 5 + ["bbbbb"]), False),
    ],
)  # fmt: skip
def test_names_are_as_long_as_file_systems_take(name: str, fits: bool) -> None:
    if fits:
        assert safe_name(name) == name
    else:
        with pytest.raises(ArchiveError, match=f"a name of {len(name.encode())} bytes"):
            safe_name(name)


def test_members_share_what_an_archive_may_unpack_to(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(plain("a.wav", "b.wav"))
    members = unpack(tmp_path / "x.tar", tmp_path / "dest", limits=Limits(bytes=2 * len(SOUND), floor=1 << 20))
    assert sum(member.size for member in members) == 2 * len(SOUND)
    with pytest.raises(ArchiveError, match=r"b\.wav.*too many bytes"):
        unpack(tmp_path / "x.tar", tmp_path / "other", limits=Limits(bytes=2 * len(SOUND) - 1, floor=1 << 20))
    # Each leaves less by its own size: of 150 bytes 10 and 100 leave 40.
    (tmp_path / "y.tar").write_bytes(tar(info("a", bytes(10)), info("b", bytes(100)), info("c", bytes(41))))
    with pytest.raises(ArchiveError, match="'c': too many bytes"):
        unpack(tmp_path / "y.tar", tmp_path / "third", limits=Limits(bytes=150, floor=1 << 20))
    assert len(unpack(tmp_path / "y.tar", tmp_path / "third", limits=Limits(bytes=151, floor=1 << 20))) == 3


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.tar").write_bytes(plain("a.wav", "b.wav"))
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        unpack(tmp_path / "x.tar", tmp_path / "dest")
    assert {p.name for p in tmp_path.iterdir()} <= {"x.tar", "dest"}
    assert not (tmp_path / "dest").exists() or not list((tmp_path / "dest").iterdir())


#: What names are made of: each is refused somewhere, or harmless.
PIECES = ("a", "C:", "/", "..", "\\", ".", "\0", "\x7f", "\n", "~", " ", "é", "音", "\ud800")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_safe_name_stays_inside_and_is_stable(name: str) -> None:
    try:
        path = safe_name(name)
    except ArchiveError:
        return
    root = Path("/data/set")
    assert os.path.normpath(root / path).startswith(str(root))
    assert safe_name(path) == path
    assert "\0" not in path


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_never_escape_and_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from(
            [
                plain("a/x.wav", "b.wav"),
                gzip.compress(plain("a.wav"), mtime=0),
                zipped(("a/x.wav", SOUND), ("b.wav", b"1")),
            ]
        )
    )
    broken = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        broken[at] ^= data.draw(st.integers(1, 255))
    base = tmp_path / "box"
    base.mkdir(exist_ok=True)
    (base / "x").write_bytes(bytes(broken))
    try:
        members = unpack(base / "x", base / "dest")
    except ArchiveError:
        members = []
    assert {p.name for p in base.iterdir()} <= {"x", "dest"}
    assert {p.name for p in tmp_path.iterdir()} == {"box"}
    for member in members:
        body = (base / "dest" / member.path).read_bytes()
        assert hashlib.sha256(body).hexdigest() == member.sha256
