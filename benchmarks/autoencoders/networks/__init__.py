"""Published networks, with the parameter names of their weights."""
