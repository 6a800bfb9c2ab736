"""What survives the daemon: tables, group commit, leadership, backup."""
