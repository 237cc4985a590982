"""A cell as a channel: what it carries in bits, at the bound and with a BCH code."""
