"""`python -m etude` is the command `etude`."""

from __future__ import annotations

import sys

from etude.cli.app import main

if __name__ == "__main__":  # the lab's workers import this module again
    sys.exit(main())
