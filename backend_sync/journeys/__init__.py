"""Journeys from taps, what they cost, and what is posted for them: pure, from taps and editions of the tariff alone."""
