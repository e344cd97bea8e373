"""From a suite to measured cells: the plan, its units, and what they compute."""
