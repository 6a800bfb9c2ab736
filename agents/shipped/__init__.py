"""The policy bundle that comes with the package: ``model.onnx`` and ``card.json`` in this folder."""
