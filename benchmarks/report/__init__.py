"""The report: one folder of HTML that shows a suite's tables, curves and sounds, from disk or any server.

`aggregates.py` reads `results/<suite>/`, `tables.py`, `systems.py` and `charts.py` turn it into what the
templates show, `selection.py`, `media.py` and `listening.py` make the listening page, `site.py` writes.
"""
