"""The demo: nodes of a fleet are interrupted under traffic, and what clients saw is told honestly."""

import sys
from pathlib import Path

# The incidents table is read with the functions' own code, which lies there as it lies in their bundle.
_LAMBDAS = str(Path(__file__).resolve().parents[2] / "lambdas")
if _LAMBDAS not in sys.path:
    sys.path.append(_LAMBDAS)
