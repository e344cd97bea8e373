"""Work units and who executes them; knows no audio."""

#: Names of executors, which `benchmarks.harness.executors` makes.
EXECUTORS = ("serial", "loky", "dask", "ray")
