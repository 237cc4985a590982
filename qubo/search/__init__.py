"""What solvers share: a selection as arrays, compiled moves, and the clock that watches a search."""
