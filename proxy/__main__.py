"""`python -m proxy` is `visiongate`."""

import sys

from proxy.cli import main

sys.exit(main())
