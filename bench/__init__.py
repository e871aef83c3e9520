"""Measures; tests do not. Run with ``make bench`` or ``python -m bench [NAME ...]``."""
