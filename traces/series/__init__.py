"""Files of load series: their formats, the native file, facts and pictures of them."""
