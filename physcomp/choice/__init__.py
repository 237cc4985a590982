"""The choice of a code for every group: the loss model, the selection problem it poses, and plans of the solutions."""
