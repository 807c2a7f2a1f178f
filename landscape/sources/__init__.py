"""Where models and data come from: the hub, and packages that carry them."""
