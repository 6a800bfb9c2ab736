"""The predictor of run times that comes with the package; made by scripts/train_durations.py."""
