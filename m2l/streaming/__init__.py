"""Audio of any length through the network: windows, their seams, and noise that does not depend on them."""
