"""The commands of `physcomp`, one file each."""
