"""``python -m volseg``: the same as the command ``volseg``."""

import sys

from volseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
