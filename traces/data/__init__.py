"""Data files of the package: the demo traces (``shunter.traces.generate.make_demo``) and the tables of speeds
(``shunter.traces.make_speeds``).
"""
