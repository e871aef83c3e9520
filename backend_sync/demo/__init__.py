"""A day at one gate in a few minutes: real processes, a real broker, cards that exist only in software."""
