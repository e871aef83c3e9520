"""The signed catalogue: which list, tariff or configuration is in force, by whose word, and until when."""
