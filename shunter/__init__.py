"""Shunter: a scheduling laboratory and daemon for GPU and HPC clusters, built on one decision core."""

__version__ = "0.1.0"
