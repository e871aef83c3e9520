"""How a delivered card becomes an operator's own: what is written, in an order that survives a tear."""
