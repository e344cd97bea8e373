"""The benchmark that compares music autoencoders: Tables 2 and 3 and Figure 2 of the paper."""
