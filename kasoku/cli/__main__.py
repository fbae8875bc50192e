"""`python -m kasoku.cli`: what the `kasoku` launcher runs for everything but `exec`."""

from kasoku.cli.main import main

main()
