"""The forecaster of load that comes with the package; made by scripts/train_load.py."""
