"""Tables of what the vendors document, which the sandbox is compared with; each file names its source."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
GRAPH: dict[str, Any] = json.loads((_FOLDER / "documented_graph.json").read_text())
PANCAKE: dict[str, Any] = json.loads((_FOLDER / "documented_pancake.json").read_text())
