from __future__ import annotations

from typing import Any

MODEL_MAP: dict[str, Any] = {}
