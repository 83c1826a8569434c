"""The toolkit: what is around a learner, to choose it, to foresee and to watch it, and to recover."""
