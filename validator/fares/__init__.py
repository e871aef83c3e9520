"""What a journey costs: a tariff in bytes, and the pure rules that price by it, at the gate and in the back office."""
