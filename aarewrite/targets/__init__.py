"""What the runtimes that a model is deployed to take: a table and a module of conditions for each."""
