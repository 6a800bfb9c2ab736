"""Who may call the daemon and what they may do: tokens, certificates, roles, limits, and the record of changes."""
