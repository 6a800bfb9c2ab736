"""Reports and pictures of finished runs: a self-contained HTML page and figures for papers."""
