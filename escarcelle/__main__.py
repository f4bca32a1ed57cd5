"""`python -m escarcelle`."""

from escarcelle.cli import main

main()
