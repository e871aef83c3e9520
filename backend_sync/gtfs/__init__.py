"""GTFS feeds as operators publish them: read, checked, compiled into a tariff, explained."""
