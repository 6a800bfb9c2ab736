"""What forecasts are worth in decisions: the same replays without them, with them, and with perfect ones."""
