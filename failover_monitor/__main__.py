"""python -m failover_monitor."""

import sys

from failover_monitor.cli import main

sys.exit(main())
