"""A selection in the forms that other tools read: CQM, BQM and COO text."""
