"""Other libraries' interfaces on mltk, so that their scripts run with another import alone."""
