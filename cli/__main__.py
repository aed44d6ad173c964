"""`python -m lifecycle` is `lifecycle`."""

from kfp_lifecycle.cli.cli import main

main()
