"""The predictor of run times that comes with the package: its card and its trees, made by scripts/train_durations.py."""
