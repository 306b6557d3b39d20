"""The programs, one module each; `tools/` starts them from a checkout."""
