from __future__ import annotations

from tensorrt_llm.models.modeling_utils import PretrainedConfig


class QWenConfig(PretrainedConfig):
    """Qwen's own fields are attributes, as all others."""
