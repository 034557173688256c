"""aarewrite as a pass of other tools."""
