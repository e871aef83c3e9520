"""Signed lists: parsed, verified, never older; immutable files behind a pointer."""
