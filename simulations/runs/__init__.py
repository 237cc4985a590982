"""Common parts of all studies: the study file, its folder, the ledger of trials, read-back and progress."""
