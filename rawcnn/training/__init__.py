"""Training: the step, the loop around it, recipes, checkpoints, several devices."""
