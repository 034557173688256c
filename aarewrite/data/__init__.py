"""Samples: where they come from, how they are made into inputs, and views of them."""
