"""The paper's Tables 1-3 and Figure 2 from nothing: what `m2l-bench paper` plans, fetches, measures and writes."""
