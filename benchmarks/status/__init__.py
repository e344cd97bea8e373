"""What a run would do, how far it is, and what is installed."""
