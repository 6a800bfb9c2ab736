"""Studies and small programs that use Shunter as a library."""
