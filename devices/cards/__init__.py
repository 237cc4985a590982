"""Cards: what is known of a published cell, as a TOML file with a source for every number."""
