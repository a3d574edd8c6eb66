"""Training, evaluation with statistics, the model registry."""
