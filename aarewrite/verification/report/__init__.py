"""Showing a `VerifyReport`: a terminal table, JSON, and a self-contained HTML page."""
