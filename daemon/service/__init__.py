"""The services of the protocol, over the live state."""
