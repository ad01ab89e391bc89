"""Run the command line: `python -m server` is `cloister`."""

import sys

from server.cli import main

sys.exit(main())
