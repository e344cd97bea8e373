"""Settings of the whole test run."""

from __future__ import annotations

import os

from hypothesis import settings

# The models of the tests are tiny: a second thread only waits for the first, here and in the subprocesses.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):  # numba's start tells torch's OpenMP its own number
    os.environ.setdefault(name, "1")
# The tests of downloads talk to a server of their own, whatever the machine's owner forbids.
for name in ("HF_HUB_OFFLINE", "M2L_OFFLINE"):
    os.environ.pop(name, None)

# Deadlines test the machine, not the code.
settings.register_profile("m2l", deadline=None)
settings.load_profile("m2l")
