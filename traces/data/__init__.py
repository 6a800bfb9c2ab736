"""Data files of the package: the demo traces, written by ``shunter.traces.generate.make_demo``."""
