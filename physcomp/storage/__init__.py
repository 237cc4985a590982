"""Plans and chips: which group has which code, the programmed cells, and what is read back."""
