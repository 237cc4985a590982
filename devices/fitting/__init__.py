"""Fitting: turn measurements of your own device into a card, with a report and a figure of how well it fits.

In the order of the work: `measurements` reads a table; `writes` gathers reads into writes; `curve` finds the monotone
range; `drift` and `drift_and_read_noise` fit decay and read noise; `spread` and `moments` estimate the mean and
programming noise of each level; `shape` makes the curves of the card; `card_text` writes it; `report` and `figure` show
how well it fits. `fit` goes through all of them.
"""
