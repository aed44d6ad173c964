"""`python -m lifecycle` is `lifecycle`."""

from lifecycle.cli import main

main()
