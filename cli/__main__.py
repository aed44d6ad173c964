"""`python -m kfp_lifecycle.cli` is `lifecycle`."""

import sys

from kfp_lifecycle.cli.cli import main

sys.exit(main())
