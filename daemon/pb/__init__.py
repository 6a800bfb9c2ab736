"""Messages and stubs that ``make protocol`` generates from ``daemon/proto``; not to be edited."""
