"""The paper's own data: how each data set is published, fetched, adopted from an existing copy, and verified.

`catalog` lists what is published; `fetcher` gets it; `adopt` takes an existing copy; `verify` checks all of it
again; `musiccaps` and `clips` cut the clips of MusicCaps out of their videos.
"""
