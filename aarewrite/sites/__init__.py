"""Where a model samples: the sites, and what surrounds them."""
