"""Settings of the whole test run."""

from __future__ import annotations

import os

# The models of the tests are tiny: a second thread only waits for the first, here and in the subprocesses.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test asks a hub for anything.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
