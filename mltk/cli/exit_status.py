"""With what commands end that do not end well."""

IMPOSSIBLE = 2
"""The exit status of what cannot be done here, because a library is missing, say."""

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C stopped, as in shells."""
