"""How a CPU runs the network fast; the same numbers as the layers themselves."""
