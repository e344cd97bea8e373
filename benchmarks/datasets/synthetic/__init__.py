"""Music from a seed: instruments, composition, mixing. Pure numpy and scipy; no data files.

The order in which a clip is made: `styles` and `harmony` say what is idiomatic, `composition` writes a
`Piece` (notes and drum hits), `instruments` and `drums` sound it, `mixing` places it in a room.

Nothing here uses numpy's global random state, BLAS, or threads: the same seed gives the same samples in
every process. `VERSION` is part of every seed and every digest; raise it when the sound changes.
"""

from __future__ import annotations

VERSION = 2
