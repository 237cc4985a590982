"""The joint choice: the loss model, the selection made of it, and plans of what solvers choose."""
