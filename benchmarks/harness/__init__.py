"""Work units and who executes them; knows no audio."""
