"""How long models take beside each other, and which operators take it."""
