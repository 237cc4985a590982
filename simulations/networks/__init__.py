"""Networks that others have published, and the data they are for: what studies and examples are made of."""
