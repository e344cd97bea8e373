"""The stage of the dress rehearsal: weights and data in their published forms, and the servers that hold them."""
