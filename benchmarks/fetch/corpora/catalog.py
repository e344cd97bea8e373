"""The paper's data sets as they are published: addresses, checksums, layouts, licenses, counts.

Published checksums are Zenodo's MD5s (TinySOL, Beatport), mirdata's MD5 per file, and MTG-Jamendo's sha256 lists
at a pinned commit. MagnaTagATune publishes none, and the list of DNS-4 (`DNS_LIST`) is not read here: the zip's and
bzip2's own checksums, what the server states, and the counts are verified, and `verify` compares with what was first
unpacked.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from benchmarks.fetch.corpora.corpus import Archive, Corpus
from benchmarks.fetch.expected import Expected
from benchmarks.fetch.sources import github_urls
from benchmarks.fetch.transfer import Item

#: In the order of `all`: evaluation first, the two large training corpora last.
PAPER_DATA = ("musiccaps", "magnatagatune", "beatport", "tinysol", "mtg-jamendo", "dns4")
GB = 10**9


def _zenodo(record: int, name: str) -> tuple[str, ...]:
    """Both addresses under which Zenodo serves a file."""
    return (
        f"https://zenodo.org/records/{record}/files/{name}?download=1",
        f"https://zenodo.org/api/records/{record}/files/{name}/content",
    )


def _zenodo_archive(record: int, name: str, md5: str, prefix: str) -> Archive:
    return Archive(name, (Item(name, _zenodo(record, name), Expected(None, f"md5:{md5}")),), prefix)


# ---- TinySOL ----------------------------------------------------------------------------------------

#: mirdata's indexes left its repository in late 2024; this commit still has TinySOL's.
MIRDATA = "github:mir-dataset-loaders/mirdata@e7703fbe827fa1016d59f23b4da7744b35db5553"
_INDEXES = "mirdata/datasets/indexes"
TINYSOL_INDEX, BEATPORT_INDEX = "tinysol_index_6.0.json", "beatport_key_index_1.0.0.json"


def _index_item(name: str, size: int, sha256: str, *mirrors: str) -> Item:
    urls = (*mirrors, *github_urls(f"{MIRDATA}:{_INDEXES}/{name}"))
    return Item(name, urls, Expected(size, f"sha256:{sha256}"))


def mirdata_files(index: Path) -> dict[str, str | None]:
    """Files of a mirdata index with their MD5s; those of `meta` without, since mirdata rewrites these files."""
    tracks = json.loads(index.read_text(encoding="utf-8"))["tracks"]
    pairs = [pair for track in tracks.values() for pair in track.values() if pair[0]]
    return {path: None if path.startswith("meta/") else f"md5:{md5}" for path, md5 in pairs}


TINYSOL = Corpus(
    name="tinysol",
    folder="tinysol",
    title="TinySOL 6.0: 2,913 recorded notes of 14 instruments",
    license="CC BY 4.0",
    origin="Zenodo record 3685367",
    citation="Cella et al.: OrchideaSOL, ICMC 2020",
    items=(
        Item(
            "annotation/TinySOL_metadata.csv",
            _zenodo(3685367, "TinySOL_metadata.csv"),
            Expected(317576, "md5:a86c9bb115f69e61f2f25872e397fc4a"),
        ),
        _index_item(
            TINYSOL_INDEX,
            497182,
            "343d5424c5d58bcc8e9f4f7c32d5a4a4e2692459f8c0692f7b2ad718a66adfd5",
            *_zenodo(13993273, TINYSOL_INDEX),
        ),
    ),
    archives=lambda folder: [_zenodo_archive(3685367, "TinySOL.tar.gz", "36030a7fe389da86c3419e5ee48e3b7f", "audio")],
    published=lambda folder: mirdata_files(folder / TINYSOL_INDEX),
    count=2913,
    sample_rates=(44100,),
)

# ---- Beatport ---------------------------------------------------------------------------------------

_BEATPORT = (
    ("keys.zip", "939abc05f36121badfac4087241ac172", "keys"),
    ("original_metadata.zip", "bb3e3ac1fe5dee7600ef2814accdf8f8", "meta"),
    ("audio.zip", "f490ee6c23578482d6fcfa11b82636a1", "audio"),
)

BEATPORT = Corpus(
    name="beatport",
    folder="beatport_key",
    title="Beatport EDM Key: 1,486 excerpts of two minutes, with keys",
    license="CC BY-SA 4.0 (annotations; the previews are Beatport's)",
    origin="Zenodo record 1101082",
    citation="Faraldo: Tonality Estimation in Electronic Dance Music, 2018",
    items=(
        _index_item(
            BEATPORT_INDEX,
            598112,
            "08b64c7b3b1e09986a61f69fa88cec6a28431f0a32f98134e80a035b72b853c3",
            *_zenodo(13993022, BEATPORT_INDEX),
        ),
    ),
    archives=lambda folder: [_zenodo_archive(1101082, *row) for row in _BEATPORT],
    published=lambda folder: mirdata_files(folder / BEATPORT_INDEX),
    count=3764,  # 1,486 audio files, 1,486 keys, and metadata of 792
    sample_rates=(44100,),
    notes=(
        "the same 1,486 recordings as giantsteps-mtg-key: the two are one task",
        "metadata (meta/*.json) is kept as published, with the bare `nan` that mirdata rewrites",
    ),
)

# ---- MagnaTagATune ----------------------------------------------------------------------------------

_MTT_HOSTS = ("https://mirg.city.ac.uk/datasets/magnatagatune", "http://mi.soi.city.ac.uk/datasets/magnatagatune")
_MTT_TABLE = "annotations_final.csv"
MTT_CLIPS, MTT_COLUMNS = 25863, 190


def _mtt_item(name: str, check: Callable[[Path], None] | None = None) -> Item:
    return Item(name, tuple(f"{host}/{name}" for host in _MTT_HOSTS), Expected(check=check))


def _mtt_rows(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def check_mtt_table(path: Path) -> None:
    """Verify annotations_final.csv against its published shape, as no checksum of it is published.

    Raises:
        ValueError: Rows or columns are not the published ones, or a needed column is missing.
    """
    try:
        rows = _mtt_rows(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"not a table: {error}") from error
    columns = len(rows[0]) if rows else 0
    if (len(rows), columns) != (MTT_CLIPS, MTT_COLUMNS):
        raise ValueError(f"{len(rows)} rows and {columns} columns, published: {MTT_CLIPS} and {MTT_COLUMNS}")
    if missing := {"clip_id", "mp3_path"} - set(rows[0]):
        raise ValueError(f"no column {sorted(missing)[0]!r}")


#: Clips whose audio is published empty (35644) or undecodable.
MTT_DAMAGED = frozenset({"35644", "55753", "57881"})


def _mtt_damaged(folder: Path) -> frozenset[str]:
    rows = _mtt_rows(folder / _MTT_TABLE)
    return frozenset(f"mp3/{row['mp3_path']}" for row in rows if row["clip_id"] in MTT_DAMAGED)


MAGNATAGATUNE = Corpus(
    name="magnatagatune",
    folder="magnatagatune",
    title="MagnaTagATune: 25,863 clips of 29 s with 188 tags",
    license="CC BY-NC-SA 3.0",
    origin="mirg.city.ac.uk/datasets/magnatagatune",
    citation="Law, West, Mandel, Bay, Downie: Evaluation of algorithms using games, ISMIR 2009",
    items=(_mtt_item(_MTT_TABLE, check_mtt_table),),
    archives=lambda folder: [
        Archive("mp3.zip", tuple(_mtt_item(f"mp3.zip.{number:03d}") for number in (1, 2, 3)), "mp3")
    ],
    published=lambda folder: {f"mp3/{row['mp3_path']}": None for row in _mtt_rows(folder / _MTT_TABLE)},
    count=MTT_CLIPS,
    damaged=_mtt_damaged,
    transfer_bytes=3 * GB,
    unpacked_bytes=3 * GB,
    sample_rates=(16000,),
    notes=(
        "no checksums are published: the zip's own checksums and the counts are verified",
        "size estimated from the bit rate",
    ),
)

# ---- MTG-Jamendo ------------------------------------------------------------------------------------

_JAMENDO = "github:MTG/mtg-jamendo-dataset@470fa101de95e06b82774f375bec550fdc1bb4d4"
JAMENDO_TARS, JAMENDO_TRACKS = 100, 55701
_TARS, _TRACKS, _TSV = "raw_30s_audio_sha256_tars.txt", "raw_30s_audio_sha256_tracks.txt", "raw_30s.tsv"


def sha256_list(path: Path, count: int) -> dict[str, str]:
    """Name -> sha256 from a list of "sha256 name" lines.

    Raises:
        ValueError: The number of lines is not the published one, or a line is something else.
    """
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.strip().partition(" ")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef") or not name.strip():
            raise ValueError(f"{line[:80]!r} is not a sha256 and a name")
        found[name.strip()] = digest
    if len(found) != count:
        raise ValueError(f"{len(found)} names, published are {count}")
    return found


def _jamendo_item(path: str, check: Callable[[Path], object] = lambda file: None) -> Item:
    def checked(file: Path) -> None:
        check(file)

    return Item(PurePosixPath(path).name, github_urls(f"{_JAMENDO}:{path}"), Expected(check=checked))


def _jamendo_archives(folder: Path) -> list[Archive]:
    archives = []
    for name, digest in sorted(sha256_list(folder / _TARS, JAMENDO_TARS).items()):
        part = Item(name, (), Expected(None, f"sha256:{digest}"))
        archives.append(Archive(name, (part,), f"audio/{name.removesuffix('.tar')[-2:]}"))
    return archives


MTG_JAMENDO = Corpus(
    name="mtg-jamendo",
    folder="mtg-jamendo",
    title="MTG-Jamendo: 55,701 full tracks (320 kbit/s MP3); trains Music2Latent",
    license="Creative Commons, per track (metadata CC BY-NC-SA 4.0)",
    origin="github.com/MTG/mtg-jamendo-dataset (raw_30s/audio)",
    citation="Bogdanov, Won, Tovstogan, Porter, Serra: The MTG-Jamendo dataset, ICML 2019 workshop",
    items=(
        _jamendo_item(f"data/download/{_TARS}", lambda path: sha256_list(path, JAMENDO_TARS)),
        _jamendo_item(f"data/download/{_TRACKS}", lambda path: sha256_list(path, JAMENDO_TRACKS)),
        _jamendo_item(f"data/{_TSV}"),
    ),
    archives=_jamendo_archives,
    published=lambda folder: {
        f"audio/{name}": f"sha256:{digest}" for name, digest in sha256_list(folder / _TRACKS, JAMENDO_TRACKS).items()
    },
    count=JAMENDO_TRACKS,
    transfer_bytes=508 * GB,
    unpacked_bytes=508 * GB,
    sample_rates=(44100, 48000),
    train="audio",
    official=(
        "git clone https://github.com/MTG/mtg-jamendo-dataset",
        "pip install -r mtg-jamendo-dataset/scripts/requirements.txt",
        "mkdir -p {folder}",
        "python mtg-jamendo-dataset/scripts/download/download.py --dataset raw_30s --type audio --unpack --remove "
        "{folder}  # --help lists its mirrors",
    ),
)

# ---- DNS Challenge 4 --------------------------------------------------------------------------------

#: Group -> number of its archives.
DNS_GROUPS: dict[str, int] = {
    "VocalSet_48kHz_mono": 1,
    "emotional_speech": 1,
    "french_speech": 9,
    "german_speech": 43,
    "italian_speech": 6,
    "read_speech": 40,
    "russian_speech": 2,
    "spanish_speech": 9,
    "vctk_wav48_silence_trimmed": 5,
}
#: Lines of size, SHA-1 and path of every clip of the challenge.
DNS_LIST = "https://dns4public.blob.core.windows.net/dns4archive/dns4-datasets-files-sha1.csv.bz2"
_DNS_PACKED = 550 / 892  # archived bytes per unpacked byte, over the whole challenge


def _dns_archives(folder: Path) -> list[Archive]:
    # The names of the archives end with scores that differ between releases of the challenge.
    return [
        Archive(name, (Item(f"*{name}*.tar.bz2", (), Expected()),), f"clean_fullband/{group}")
        for group, count in DNS_GROUPS.items()
        for name in (f"{group}_{number:03d}" for number in range(count))
    ]


DNS4 = Corpus(
    name="dns4",
    folder="dns4",
    title="DNS Challenge 4, clean full-band speech (48 kHz); trains Music2Latent",
    license="CC BY 4.0 (repository); that of the recordings varies by source",
    origin="github.com/microsoft/DNS-Challenge (download-dns-challenge-4.sh)",
    citation="Dubey et al.: ICASSP 2022 Deep Noise Suppression Challenge",
    items=(),
    archives=_dns_archives,
    published=lambda folder: {},
    count=None,
    transfer_bytes=int(827 * GB * _DNS_PACKED),
    unpacked_bytes=827 * GB,
    sample_rates=(48000,),
    train="clean_fullband",
    official=(
        "curl --create-dirs -o {folder}/download.sh "
        "https://raw.githubusercontent.com/microsoft/DNS-Challenge/master/download-dns-challenge-4.sh",
        "# in {folder}/download.sh, keep the archives of clean_fullband and choose how to download them; then:",
        "(cd {folder} && bash download.sh)",
    ),
    notes=(
        f"its publisher's list of sizes and SHA-1 of all clips is {DNS_LIST}; it is not read here, and only "
        "bzip2's own checksums are verified",
        "a 404 (BlobNotFound) of the folder that holds its archives says nothing: only the archives have "
        "addresses (DNS-Challenge issue 200)",
        "the paper does not say which of the nine groups it used; --only GROUP takes some",
        "contains VocalSet and VCTK: probes on those are no test of a model trained on this",
    ),
)

CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (MAGNATAGATUNE, BEATPORT, TINYSOL, MTG_JAMENDO, DNS4)}
