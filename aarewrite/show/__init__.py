"""Showing results: tables for the terminal, the HTML page."""
