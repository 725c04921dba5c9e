from tensorrt_llm.network import default_net

__all__ = ["default_net"]
