"""Everything that touches a device: codecs, ports, drivers, and cards that exist only in software."""
