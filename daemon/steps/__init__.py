"""What may happen to the live state, a function each: ``f(state, step, now_s, …)`` changes the one and fills the other.

No I/O, no clock. An event is told after what it tells of has been changed, since the row of its job goes with it.
"""
