"""What all studies share: the study file, its folder, the ledger of trials, read-back and progress."""
