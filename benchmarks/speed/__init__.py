"""Contests: ours and a rival, side by side in one run.

Each contest is one module with a function `run` that returns a `timing.Contest`: median times, their ratio, and the
error of one result against the other, because a speed without its error says nothing. `m2l-bench speed` names them.
"""
