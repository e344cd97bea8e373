"""A metric of one's own."""

import numpy as np


def peak_error(preds, target, sample_rate):
    """Largest difference of two samples."""
    return float(np.abs(preds - target).max())


peak_error.higher_is_better = False  # all attributes have defaults
peak_error.tolerance = 0.01  # the gate lets a change of the mean up to this size pass
