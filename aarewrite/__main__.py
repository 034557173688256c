"""`python -m aarewrite`."""

from aarewrite.cli.app import main

main()
