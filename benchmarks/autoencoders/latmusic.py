"""LatMusic (Pasini, Grachten and Lattner, ICASSP 2024): a row that holds published figures only.

Neither its code nor its weights were released, so there is nothing to run. Its figures of the paper's Tables 1 and 2
stand under the heading of published figures; the measured table keeps a row that says why it is empty.
"""

from __future__ import annotations

from typing import NoReturn


class PublishedOnlyError(FileNotFoundError):
    """A system whose code and weights are not public: no command gets them."""


def latmusic() -> NoReturn:
    """Always refuses.

    Raises:
        PublishedOnlyError: there is nothing to run.
    """
    raise PublishedOnlyError(
        "LatMusic's code and weights were never released; its published figures stand with the published rows "
        "(reconstructions made elsewhere can be measured as external:DIR)"
    )
