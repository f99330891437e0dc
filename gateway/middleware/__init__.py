"""The outer tier: one class per file, wired in ``app.py``."""
