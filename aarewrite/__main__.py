"""`python -m aarewrite`."""

from aarewrite.cli import main

main()
