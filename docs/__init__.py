"""Documentation, and the program that generates the parts of it that would otherwise go stale."""
