"""What is idiomatic: ten styles, and the artists who play them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.drums import Kit, draw_kit

Groove = tuple[tuple[str, str], ...]  # (drum, steps of one bar: x strong, o soft, . rest)


@dataclass(frozen=True)
class Style:
    """A style.

    Attributes:
        tempo: Range in beats per minute.
        chords, bass, melody, pad: Instruments that may play that role; "" leaves it out.
        comping, bass_line: Accompaniment patterns of `composition`.
        grooves: Drum patterns of one bar in sixteenths; empty: no drums.
        drums: Share of pieces with drums.
        density: Notes per beat of a melody, about.
        room: Range of the reverberation time T60 in seconds.
        loudness: Range of the level in dBFS (RMS).
        minor: Share of pieces in a minor key.
        beats: Beats per bar.
        swing: Delay of every second eighth, as a share of an eighth.
        sevenths: Whether chords have sevenths.
        electronic: Drum machine instead of a kit; echo on the melody.
        moods: Words of the caption.
        tags: Tags every piece of the style has.
    """

    name: str
    tempo: tuple[float, float]
    chords: tuple[str, ...]
    bass: tuple[str, ...]
    melody: tuple[str, ...]
    pad: tuple[str, ...]
    comping: tuple[str, ...]
    bass_line: tuple[str, ...]
    grooves: tuple[Groove, ...]
    drums: float
    density: float
    room: tuple[float, float]
    loudness: tuple[float, float]
    minor: float
    moods: tuple[str, ...]
    tags: tuple[str, ...]
    beats: int = 4
    swing: float = 0.0
    sevenths: bool = False
    electronic: bool = False


_ROCK: tuple[Groove, ...] = (
    (("kick", "x.....x.x......."), ("snare", "....x.......x..."), ("hat", "x.o.x.o.x.o.x.o.")),
    (("kick", "x..x..x...x....."), ("snare", "....x..o....x..o"), ("ride", "x...x...x...x...")),
    (("kick", "x.x.....x.x....."), ("snare", "....x.......x.oo"), ("open hat", "x...x...x...x...")),
)
_FOUR: tuple[Groove, ...] = (
    (("kick", "x...x...x...x..."), ("clap", "....x.......x..."), ("open hat", "..x...x...x...x.")),
    (("kick", "x...x...x...x..."), ("hat", "o.x.o.x.o.x.o.xo"), ("rim", "...x..x....x..x.")),
    (("kick", "x...x...x...x..x"), ("snare", "....x.......x..."), ("hat", "oooooooooooooooo"),
     ("rim", "..o..o....o..o..")),
)  # fmt: skip
_FUNK: tuple[Groove, ...] = (
    (("kick", "x.x....o..x..x.."), ("snare", "....x..o.o..x..o"), ("hat", "xoxoxoxoxoxoxoxo")),
    (("kick", "x..x..x...x....."), ("snare", "....x.o..o..x.o."), ("hat", "x.xxx.xxx.xxx.xx"),
     ("shaker", "o.o.o.o.o.o.o.o.")),
)  # fmt: skip
_JAZZ: tuple[Groove, ...] = (
    (("ride", "x...x.o.x...x.o."), ("hat", "....x.......x..."), ("kick", "o.......o.......")),
    (("brush", "x...o...x...o.o."), ("rim", "..........o....."), ("kick", "o...............")),
)
_FOLK: tuple[Groove, ...] = (
    (("shaker", "x.o.x.o.x.o.x.o."), ("kick", "x.......x.......")),
    (("brush", "....x.......x..."), ("shaker", "x.oox.oox.oox.oo")),
)
_EPIC: tuple[Groove, ...] = (
    (("tom", "x......xx...x.x."), ("crash", "x...............")),
    (("tom", "x...x..x....x..."), ("snare", "oo.ooo.ooo.oxooo")),
)

STYLES: dict[str, Style] = {
    s.name: s
    for s in (
        Style(
            "ambient", (55, 80), ("synth pad", "wind pad", "electric piano"), ("", "synth bass"),
            ("bells", "whistle", "flute", "piano", "harp"), ("wind pad", "synth pad", "choir"),
            ("sustain",), ("pedal",), (), 0.0, 0.5, (1.8, 2.6), (-27, -21), 0.5,
            ("calm", "floating", "dreamy"), ("ambient", "electronic"), electronic=True),
        Style(
            "baroque", (76, 116), ("harpsichord", "organ"), ("cello", "contrabass", "bassoon"),
            ("violin", "oboe", "flute", "trumpet in c"), ("", "", "strings"),
            ("alberti", "arpeggio", "quarters"), ("eighths", "walking"), (), 0.0, 2.4, (0.9, 1.8), (-24, -18), 0.5,
            ("stately", "intricate", "courtly"), ("classical",)),
        Style(
            "chiptune", (120, 170), ("pulse lead",), ("synth bass", "pulse lead"), ("pulse lead", "synth lead"),
            ("",), ("arpeggio", "fast arpeggio"), ("eighths", "octaves"), _ROCK + _FOUR, 0.75, 2.4, (0.15, 0.3),
            (-18, -13), 0.4, ("playful", "pixelated", "energetic"), ("chiptune", "electronic"), electronic=True),
        Style(
            "dance", (118, 130), ("synth stab", "piano", "organ"), ("synth bass",), ("synth lead", "choir", "bells"),
            ("synth pad", "strings", ""), ("offbeat", "syncopated"), ("offbeat", "octaves"), _FOUR, 0.9, 1.4,
            (0.5, 1.2), (-16, -11), 0.5, ("uplifting", "driving", "glossy"), ("dance", "electronic"), electronic=True),
        Style(
            "folk", (84, 132), ("acoustic guitar", "banjo", "accordion"), ("upright bass", ""),
            ("violin", "whistle", "flute", "accordion"), ("",), ("strum", "waltz", "arpeggio"), ("root-fifth",),
            _FOLK, 0.45, 1.8, (0.3, 0.8), (-24, -17), 0.35, ("warm", "rustic", "cheerful"), ("folk",)),
        Style(
            "funk", (92, 116), ("electric piano", "organ", "electric guitar"), ("electric bass",),
            ("alto saxophone", "trumpet in c", "synth lead", "trombone"), ("",), ("syncopated", "offbeat"),
            ("funk", "octaves"), _FUNK, 0.95, 1.6, (0.2, 0.6), (-18, -13), 0.55,
            ("groovy", "tight", "funky"), ("funk",), sevenths=True),
        Style(
            "jazz", (96, 176), ("piano", "vibraphone", "electric piano"), ("upright bass",),
            ("alto saxophone", "trumpet in c", "clarinet in bb", "vibraphone"), ("",), ("shell", "syncopated"),
            ("walking",), _JAZZ, 0.8, 1.9, (0.4, 0.9), (-23, -17), 0.45, ("smoky", "relaxed", "swinging"), ("jazz",),
            swing=0.3, sevenths=True),
        Style(
            "orchestral", (66, 108), ("strings", "french horn", "harp"), ("contrabass", "bass tuba", "cello"),
            ("violin", "french horn", "oboe", "trumpet in c", "clarinet in bb"), ("strings", "choir", ""),
            ("sustain", "quarters", "arpeggio"), ("pedal", "root-fifth"), _EPIC, 0.4, 1.2, (1.4, 2.2), (-26, -16), 0.55,
            ("cinematic", "noble", "sweeping"), ("orchestral", "classical")),
        Style(
            "rock", (104, 152), ("electric guitar",), ("electric bass",), ("electric guitar", "organ", "synth lead"),
            ("", "", "organ"), ("chug", "strum", "sustain"), ("eighths",), _ROCK, 0.95, 1.5, (0.3, 0.8), (-16, -11),
            0.5, ("raw", "energetic", "anthemic"), ("rock",)),
        Style(
            "techno", (124, 142), ("synth stab", "synth pad"), ("synth bass",), ("", "synth lead", "bells"),
            ("wind pad", "synth pad", ""), ("syncopated", "offbeat"), ("sixteenths", "offbeat"), _FOUR, 1.0, 1.0,
            (0.6, 1.6), (-16, -11), 0.85, ("hypnotic", "dark", "mechanical"), ("techno", "electronic"),
            electronic=True),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Artist:
    """Who plays: fixed choices within a style, shared by all pieces of that artist.

    Attributes:
        name: As in "jazz-3".
        style: The style.
        chords, bass, melody, pad: The artist's instruments for each role, at most two.
        tempo: Range in beats per minute, narrower than the style's.
        room: T60 in seconds.
        kit: Drum kit.
        grooves: Drum patterns.
        patches: Seed of the artist's variations of the instruments.
    """

    name: str
    style: Style
    chords: tuple[str, ...]
    bass: tuple[str, ...]
    melody: tuple[str, ...]
    pad: tuple[str, ...]
    tempo: tuple[float, float]
    room: float
    kit: Kit
    grooves: tuple[Groove, ...]
    patches: int


def draw_artist(style: Style, name: str, draw: Draw) -> Artist:
    """Invent an artist of a style."""

    def some(options: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(draw.shuffled(options)[: min(2, len(options))])

    low, high = style.tempo
    center = draw.uniform(low, high)
    reach = 0.2 * (high - low)
    return Artist(
        name=name,
        style=style,
        chords=some(style.chords),
        bass=some(style.bass),
        melody=some(style.melody),
        pad=some(style.pad),
        tempo=(max(low, center - reach), min(high, center + reach)),
        room=draw.uniform(*style.room),
        kit=draw_kit(draw, style.electronic),
        grooves=some_grooves(style.grooves, draw),
        patches=draw.integer(1 << 30),
    )


def some_grooves(grooves: tuple[Groove, ...], draw: Draw) -> tuple[Groove, ...]:
    """At most two of a style's drum patterns."""
    return tuple(draw.shuffled(grooves)[:2])
