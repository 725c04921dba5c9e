def str_dtype_to_trt(name: str) -> str:
    assert name in ("float32", "float16", "bfloat16", "int32", "int64")
    return f"trt.{name}"
