"""The oracle: test vectors, the check of other implementations, and the diagnosis of their mistakes."""
