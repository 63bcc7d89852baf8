"""How often tests of kill -9 kill: `SENSORIUM_KILLS=20 make test` tries more moments, which takes minutes."""

import os

NUM_KILLS = int(os.environ.get("SENSORIUM_KILLS", "3"))
