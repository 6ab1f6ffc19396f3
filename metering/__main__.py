"""`python -m metering`."""

from metering.cli import main

main()
