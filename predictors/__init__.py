"""Forecasts of the load of nodes: baselines, a recurrent network, intervals that keep their promise, and their judge.

What forecasts needs NumPy and ONNX Runtime only; torch, LightGBM and ``onnx`` are imported where something is trained.
"""
