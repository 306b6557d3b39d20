"""Files: atomic, verified, and errors about them of one line."""
