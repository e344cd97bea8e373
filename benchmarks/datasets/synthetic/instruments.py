"""The instruments by name: an orchestra after TinySOL's fourteen, and the band around it.

All of these are synthesized: the names say what a timbre is modeled after, not that it was recorded.
"""

from __future__ import annotations

from benchmarks.datasets.synthetic.timbres import FM, Harmonic, Plucked, Struck, Timbre, Whisper

# Formants: string bodies (Helmholtz and wood resonances), bells and bores of the winds, vowels of the reed.
_VIOLIN_BODY = ((280.0, 1.2, 0.25), (460.0, 1.5, 0.25), (1100.0, 0.9, 0.4), (2700.0, 1.6, 0.45))
_VIOLA_BODY = ((220.0, 1.3, 0.25), (370.0, 1.3, 0.25), (900.0, 0.9, 0.4), (1900.0, 1.0, 0.45))
_CELLO_BODY = ((105.0, 1.2, 0.3), (190.0, 1.4, 0.3), (480.0, 0.9, 0.4), (1500.0, 1.0, 0.5))
_BASS_BODY = ((62.0, 1.0, 0.35), (110.0, 1.4, 0.3), (300.0, 0.9, 0.4), (800.0, 0.6, 0.5))

# TinySOL's names; see `synthetic_notes` for the ranges.
ORCHESTRA: dict[str, Timbre] = {
    "Accordion": Harmonic(
        slope=0.75, even=0.8, formants=((700.0, 0.9, 0.6), (2400.0, 1.2, 0.5)), cutoff=5200.0, bright=1.2,
        attack=0.05, sustain=0.95, release=0.09, voices=2, spread=9.0, breath=0.006),
    "Alto Saxophone": Harmonic(
        slope=0.95, formants=((550.0, 1.8, 0.45), (1350.0, 1.3, 0.4), (3200.0, 0.6, 0.4)), cutoff=4200.0,
        bright=2.4, attack=0.045, vibrato=16.0, vibrato_rate=5.0, breath=0.03, breath_band=(1200.0, 7000.0)),
    "Bass Tuba": Harmonic(
        slope=1.25, formants=((230.0, 1.5, 0.6),), cutoff=950.0, bright=2.4, attack=0.075, decay=0.15,
        release=0.12, breath=0.012, breath_band=(150.0, 1500.0)),
    "Bassoon": Harmonic(
        slope=0.85, formants=((440.0, 3.2, 0.35), (1150.0, 1.4, 0.35)), cutoff=2600.0, bright=1.7,
        attack=0.04, vibrato=8.0, release=0.08, breath=0.012, breath_band=(600.0, 4000.0)),
    "Cello": Harmonic(
        slope=0.95, formants=_CELLO_BODY, cutoff=3600.0, bright=1.6, attack=0.1, vibrato=18.0,
        vibrato_rate=5.2, release=0.22, breath=0.02, breath_band=(900.0, 5000.0)),
    "Clarinet in Bb": Harmonic(
        slope=0.9, even=0.12, formants=((1500.0, 0.8, 0.5), (3600.0, 0.8, 0.4)), cutoff=3400.0, bright=2.6,
        attack=0.05, release=0.08, breath=0.012, breath_band=(1500.0, 8000.0)),
    "Contrabass": Harmonic(
        slope=1.05, formants=_BASS_BODY, cutoff=1900.0, bright=1.6, attack=0.13, vibrato=12.0,
        vibrato_rate=4.6, release=0.28, breath=0.024, breath_band=(400.0, 2800.0)),
    "Flute": Harmonic(
        slope=1.75, even=0.8, cutoff=3600.0, bright=1.9, attack=0.065, vibrato=14.0, vibrato_rate=5.0,
        breath=0.035, breath_band=(1500.0, 9000.0), release=0.09),
    "French Horn": Harmonic(
        slope=1.15, formants=((370.0, 1.5, 0.5), (780.0, 0.6, 0.4)), cutoff=1500.0, bright=3.0, attack=0.07,
        decay=0.14, sustain=0.8, release=0.13, breath=0.008, breath_band=(300.0, 2500.0)),
    "Oboe": Harmonic(
        slope=0.55, formants=((1100.0, 2.8, 0.35), (2900.0, 2.2, 0.35)), cutoff=5200.0, bright=1.3,
        attack=0.035, vibrato=11.0, vibrato_rate=5.6, release=0.07, breath=0.012,
        breath_band=(2000.0, 9000.0)),
    "Trombone": Harmonic(
        slope=0.8, formants=((520.0, 1.3, 0.45), (1500.0, 0.6, 0.5)), cutoff=2900.0, bright=3.4, attack=0.055,
        decay=0.12, sustain=0.82, release=0.1, breath=0.01, breath_band=(400.0, 3500.0)),
    "Trumpet in C": Harmonic(
        slope=0.55, formants=((1250.0, 1.6, 0.45), (2600.0, 0.9, 0.4)), cutoff=5000.0, bright=3.4,
        attack=0.03, decay=0.09, sustain=0.82, vibrato=7.0, release=0.08, breath=0.012, breath_band=(1000.0, 7000.0)),
    "Viola": Harmonic(
        slope=0.92, formants=_VIOLA_BODY, cutoff=4300.0, bright=1.5, attack=0.085, vibrato=20.0,
        vibrato_rate=5.5, release=0.18, breath=0.022, breath_band=(1200.0, 6500.0)),
    "Violin": Harmonic(
        slope=0.85, formants=_VIOLIN_BODY, cutoff=5800.0, bright=1.5, attack=0.07, vibrato=23.0,
        vibrato_rate=6.0, release=0.15, breath=0.024, breath_band=(1800.0, 9000.0)),
}  # fmt: skip

BAND: dict[str, Timbre] = {
    "piano": Struck(
        n_modes=14, stiffness=3.5e-4, decay=0.75, damping=0.28, slope=1.2, release=0.11, click=0.12),
    "electric piano": FM(ratio=1.0, index=1.7, index_decay=0.35, decay=1.1, release=0.12, tremolo=0.25),
    "vibraphone": Struck(modes=(1.0, 4.0, 10.0), decay=1.1, damping=0.5, slope=1.9, release=0.25, click=0.05),
    "marimba": Struck(
        modes=(1.0, 3.93, 9.6, 16.2), decay=0.28, damping=0.4, slope=1.6, release=0.0, click=0.2),
    "bells": FM(ratio=3.5, index=3.2, index_decay=0.7, decay=1.4, release=0.5),
    "acoustic guitar": Plucked(
        decay=1.0, damping=0.28, bright=5200.0, position=0.17, body=((110.0, 0.9), (220.0, 0.7))),
    "electric guitar": Plucked(
        decay=2.2, damping=0.35, bright=3600.0, position=0.12, drive=4.5, release=0.06),
    "harp": Plucked(decay=1.3, damping=0.35, bright=3400.0, position=0.42, release=0.3, body=((180.0, 0.6),)),
    "harpsichord": Plucked(decay=1.0, damping=0.14, bright=11000.0, position=0.09, release=0.05),
    "banjo": Plucked(decay=0.35, damping=0.2, bright=8000.0, position=0.1, body=((600.0, 0.8),)),
    "organ": Harmonic(
        slope=0.9, even=0.9, cutoff=3800.0, bright=0.2, attack=0.012, decay=0.02, sustain=1.0, release=0.06,
        voices=2, spread=3.0, breath=0.004),
    "strings": Harmonic(
        slope=1.0, formants=_VIOLA_BODY, cutoff=4200.0, bright=1.2, attack=0.2, sustain=0.95, release=0.35,
        vibrato=9.0, voices=2, spread=11.0, breath=0.008),
    "choir": Harmonic(
        slope=1.1, formants=((650.0, 2.6, 0.25), (1080.0, 1.6, 0.22), (2700.0, 1.0, 0.25)), cutoff=3000.0,
        bright=1.0, attack=0.22, release=0.35, vibrato=18.0, vibrato_rate=5.2, voices=2, spread=14.0,
        breath=0.012),
    "synth pad": Harmonic(
        slope=1.0, cutoff=1900.0, bright=1.6, attack=0.5, sustain=1.0, release=0.7, voices=2, spread=16.0),
    "wind pad": Whisper(quality=70.0, harmonics=3, attack=0.5, release=0.7, air=0.03),
    "synth lead": Harmonic(
        slope=0.95, cutoff=5200.0, bright=2.0, attack=0.01, decay=0.25, sustain=0.6, release=0.08,
        vibrato=10.0, voices=2, spread=12.0),
    "pulse lead": Harmonic(
        slope=1.0, even=0.15, cutoff=9000.0, bright=0.3, attack=0.003, decay=0.05, sustain=0.75, release=0.03,
        vibrato=12.0, vibrato_rate=6.5),
    "synth stab": Harmonic(
        slope=0.9, cutoff=5200.0, bright=3.2, attack=0.004, decay=0.16, sustain=0.35, fade=0.25, release=0.1,
        voices=2, spread=10.0),
    "synth bass": Harmonic(
        slope=0.95, cutoff=1500.0, bright=3.2, attack=0.004, decay=0.14, sustain=0.55, fade=0.6,
        release=0.05),
    "electric bass": Plucked(decay=1.6, damping=0.45, bright=1500.0, position=0.25, release=0.06),
    "upright bass": Plucked(
        decay=0.8, damping=0.5, bright=900.0, position=0.35, release=0.08, body=((95.0, 0.8),)),
    "whistle": Whisper(quality=420.0, harmonics=1, attack=0.05, release=0.07, air=0.02),
}  # fmt: skip

INSTRUMENTS: dict[str, Timbre] = {**BAND, **{name.lower(): timbre for name, timbre in ORCHESTRA.items()}}

# What a listener would tag: the family's name for each instrument of the band and the orchestra.
TAG_OF_INSTRUMENT: dict[str, str] = {
    "piano": "piano", "electric piano": "piano", "vibraphone": "mallets", "marimba": "mallets",
    "bells": "bells", "acoustic guitar": "guitar", "electric guitar": "guitar", "harp": "harp",
    "harpsichord": "harpsichord", "banjo": "guitar", "organ": "organ", "strings": "strings",
    "choir": "choir", "synth pad": "synth", "wind pad": "synth", "synth lead": "synth",
    "pulse lead": "synth", "synth stab": "synth", "synth bass": "bass", "electric bass": "bass",
    "upright bass": "bass", "whistle": "whistle", "accordion": "accordion", "alto saxophone": "woodwind",
    "bass tuba": "brass", "bassoon": "woodwind", "cello": "strings", "clarinet in bb": "woodwind",
    "contrabass": "bass", "flute": "flute", "french horn": "brass", "oboe": "woodwind",
    "trombone": "brass", "trumpet in c": "brass", "viola": "strings", "violin": "violin",
}  # fmt: skip
