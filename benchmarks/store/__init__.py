"""Results under content keys: digests, the store, and where its bytes lie."""
