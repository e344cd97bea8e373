"""Tables 2 and 3 and Figure 2, from measured cells to JSON, CSV, LaTeX and Markdown."""
