"""Plans and chips: the code of every group, the programmed cells, and the network read back from them."""
