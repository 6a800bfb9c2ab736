"""The tuned linear score that comes with the package: a bundle, once one has been tuned."""
