"""Learning: environments, training and evaluation of scheduling policies, and loading what was learned.

``bundle`` needs neither torch nor Gymnasium; everything that learns is imported only where it is used.
"""
