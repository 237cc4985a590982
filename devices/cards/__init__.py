"""Device cards: the published behaviour of a memory cell as a TOML file, with a source for every number."""
