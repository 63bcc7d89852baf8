"""How much the longest tests try. `make test-slow` (`SENSORIUM_THOROUGH=1`) tries more, which takes hours."""

import os

IS_THOROUGH = os.environ.get("SENSORIUM_THOROUGH") == "1"
NUM_KILLS = 20 if IS_THOROUGH else 2
NUM_SPOKEN_QUESTIONS = 10 if IS_THOROUGH else 3
