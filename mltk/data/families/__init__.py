"""Task families whose truth is known."""
