"""`python -m node_agent` is the command line without its installed wrapper."""

import sys

from .cli import main

sys.exit(main())
