import sys
from pathlib import Path

# Where the programs themselves find their modules.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
