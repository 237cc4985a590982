"""Your own device: from measurements to a card, with a report and a figure of how well it fits.

`measurements` reads them, `fit` goes through `moments`, `shape`, `curve`, `spread`, `writes`, `times` and `drift`,
and `report`, `text` and `figure` say what came of it.
"""
