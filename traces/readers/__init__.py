"""One reader per trace format; ``registry`` lists them."""
