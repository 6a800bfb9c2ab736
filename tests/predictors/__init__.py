"""Tests of ``shunter.predictors``."""
