"""`python -m fastbp.cli` is the `fastbp` command."""

import sys

from .command import main

sys.exit(main())
