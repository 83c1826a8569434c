"""The backends that come with mltk: one module per array library."""
