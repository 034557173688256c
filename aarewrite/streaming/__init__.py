"""A windowed model made into one that keeps what it already computed."""
