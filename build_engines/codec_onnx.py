# SPDX-License-Identifier: Apache-2.0
"""Build the codec's two ONNX graphs, written node by node beside `codec.safetensors`.

`codec_encoder.onnx`: SAMPLES float32 [B, N] and NUM_SAMPLES int32 [B, 1] to CODES int32 [B, K, T],
where N is T whole frames and at most one window, and zero from NUM_SAMPLES on.
`codec_decoder.onnx`: CODES int32 [B, K, L] to SAMPLES float32 [B, L * samples_per_frame].
All dimensions but K are free.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from duologue.build_engines import codec_layers as layers
from duologue.build_engines.codec_graph import GraphBuilder
from duologue.runtime.codec.xy.mel import FLOOR, RANGE, mel_filters
from duologue.runtime.codec.xy.parameters import VocosShape, XyParameters

ENCODER_FILE = "codec_encoder.onnx"
DECODER_FILE = "codec_decoder.onnx"
VOCOS_NORM_EPS = 1e-6
MAX_MAGNITUDE = 100.0


def export_codec(parameters: XyParameters, weights_path: Path) -> tuple[Path, Path]:
    """Write both graphs into the folder of the weights.

    Args:
        parameters: of the codec.
        weights_path: the `codec.safetensors` that the graphs will refer to.

    Returns:
        Paths of the encoder and of the decoder.
    """
    encoder_path = weights_path.parent / ENCODER_FILE
    decoder_path = weights_path.parent / DECODER_FILE
    _build_encoder(parameters, weights_path).save(encoder_path)
    _build_decoder(parameters, weights_path).save(decoder_path)
    return encoder_path, decoder_path


def _build_encoder(parameters: XyParameters, weights_path: Path) -> GraphBuilder:
    graph = GraphBuilder("codec_encoder", weights_path)
    samples = graph.input("SAMPLES", TensorProto.FLOAT, ["batch", "samples"])
    num_samples = graph.input("NUM_SAMPLES", TensorProto.INT32, ["batch", 1])
    mel = _mel(graph, samples, parameters)
    lengths = _num_positions(graph, num_samples, parameters.mel_hop)
    semantic = _conv_front(graph, mel, "semantic_encoder")
    mask = layers.length_mask(graph, lengths, layers.dim_of(graph, semantic, 1))
    semantic = layers.stack(graph, semantic, "semantic_encoder", parameters.semantic_encoder, mask)
    semantic = layers.adapter(
        graph, semantic, "semantic_encoder_adapter", parameters.semantic_encoder_adapter, mask
    )
    acoustic = _conv_front(graph, mel, "acoustic_encoder")
    acoustic = layers.stack(graph, acoustic, "acoustic_encoder", parameters.acoustic_encoder, mask)
    both = graph.add("Concat", semantic, acoustic, axis=-1)
    latents = layers.adapter(graph, both, "pre_rvq_adapter", parameters.pre_rvq_adapter, mask)
    codes = _quantize(graph, _downsample(graph, latents, parameters), parameters.num_codebooks)
    shape: list[int | str] = ["batch", parameters.num_codebooks, "frames"]
    graph.output(codes, "CODES", TensorProto.INT32, shape)
    return graph


def _build_decoder(parameters: XyParameters, weights_path: Path) -> GraphBuilder:
    graph = GraphBuilder("codec_decoder", weights_path)
    shape: list[int | str] = ["batch", parameters.num_codebooks, "frames"]
    codes = graph.input("CODES", TensorProto.INT32, shape)
    latents = _dequantize(graph, codes, parameters.num_codebooks)
    latents = layers.adapter(graph, latents, "post_rvq_adapter", parameters.post_rvq_adapter, None)
    x = layers.transposed_convolution(
        graph,
        layers.channels_first(graph, latents),
        "upsample.up_conv",
        stride=parameters.downsample_factor,
    )
    x = layers.channels_first(graph, x)
    x = layers.stack(graph, x, "acoustic_decoder", parameters.acoustic_decoder, None)
    mel = _deconvolve(graph, x)
    features = _vocos_backbone(graph, mel, parameters.vocos)
    samples = _inverse_stft(graph, features, parameters.vocos)
    graph.output(samples, "SAMPLES", TensorProto.FLOAT, ["batch", "samples"])
    return graph


def _mel(graph: GraphBuilder, samples: str, parameters: XyParameters) -> str:
    """[B, N] -> log-mel [B, num_mels, N / hop]; the transform is a strided convolution."""
    n_fft, hop = parameters.mel_fft, parameters.mel_hop
    x = graph.add("Unsqueeze", samples, graph.ints(1))
    half = n_fft // 2
    x = graph.add("Pad", x, graph.ints(0, 0, half, 0, 0, half), mode="reflect")
    window = graph.constant(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft), np.float32)
    kernel = graph.add("Concat", *layers.fourier_basis(graph, n_fft), axis=0)
    kernel = graph.add("Unsqueeze", graph.add("Mul", kernel, window), graph.ints(1))
    spectrum = graph.add("Conv", x, kernel, strides=[hop])
    spectrum = layers.slice_axis(graph, spectrum, graph.ints(0), graph.ints(-1), 2)
    real, imaginary = graph.halve(spectrum, axis=1)
    squares = graph.add("Mul", real, real), graph.add("Mul", imaginary, imaginary)
    power = graph.add("Add", *squares)
    filters = mel_filters(parameters.num_mels, n_fft, parameters.input_rate_hz)
    mel = graph.add("MatMul", graph.constant(filters, np.float32), power)
    mel = graph.add("Log", graph.add("Max", mel, graph.constant(FLOOR, np.float32)))
    mel = graph.add("Mul", mel, graph.constant(1 / np.log(10), np.float32))
    loudest = graph.add("ReduceMax", mel, graph.ints(1, 2), keepdims=1)
    lowest = graph.add("Sub", loudest, graph.constant(RANGE, np.float32))
    mel = graph.add("Add", graph.add("Max", mel, lowest), graph.constant(4.0, np.float32))
    return graph.add("Mul", mel, graph.constant(0.25, np.float32))


def _num_positions(graph: GraphBuilder, num_samples: str, hop: int) -> str:
    """[B, 1]: ceil(samples / hop) mel frames, two of which make a position."""
    count = graph.add("Cast", num_samples, to=TensorProto.INT64)
    count = graph.add("Add", count, graph.constant(hop - 1, np.int64))
    return graph.add("Div", count, graph.constant(2 * hop, np.int64))


def _conv_front(graph: GraphBuilder, mel: str, name: str) -> str:
    """[B, num_mels, 2 * T] -> [B, T, d_model]."""
    x = layers.gelu(graph, layers.convolution(graph, mel, f"{name}.conv1", padding=1))
    x = layers.convolution(graph, x, f"{name}.conv2", stride=2, padding=1)
    return layers.channels_first(graph, layers.gelu(graph, x))


def _downsample(graph: GraphBuilder, x: str, parameters: XyParameters) -> str:
    """[B, T, C] -> [B, T / factor, C * factor]."""
    factor = parameters.downsample_factor
    first = layers.channels_first(graph, x)
    gate = layers.convolution(graph, first, "downsample.gate_proj", stride=factor)
    up = layers.convolution(graph, first, "downsample.up_proj", stride=factor)
    gated = graph.add("Mul", graph.add("Mul", gate, graph.add("Sigmoid", gate)), up)
    down = layers.linear(graph, layers.channels_first(graph, gated), "downsample.down_proj")
    joined = graph.add("Reshape", x, graph.ints(0, -1, parameters.latent_dim))
    return layers.layer_norm(graph, graph.add("Add", down, joined), "downsample.layer_norm")


def _quantize(graph: GraphBuilder, latents: str, num_codebooks: int) -> str:
    """[B, T, latent_dim] -> codes [B, K, T]."""
    residual = layers.linear(graph, latents, "quantizer.input_proj")
    codes = []
    for k in range(num_codebooks):
        table = graph.weight(f"quantizer.quantizers.{k}.codebook")
        norms = graph.add("ReduceSumSquare", table, graph.ints(1), keepdims=0)
        products = graph.add("MatMul", residual, graph.add("Transpose", table, perm=[1, 0]))
        twice = graph.add("Mul", products, graph.constant(2.0, np.float32))
        distances = graph.add("Sub", norms, twice)
        nearest = graph.add("ArgMin", distances, axis=-1, keepdims=0)
        codes.append(graph.add("Unsqueeze", nearest, graph.ints(1)))
        if k + 1 < num_codebooks:
            residual = graph.add("Sub", residual, graph.add("Gather", table, nearest, axis=0))
    return graph.add("Cast", graph.add("Concat", *codes, axis=1), to=TensorProto.INT32)


def _dequantize(graph: GraphBuilder, codes: str, num_codebooks: int) -> str:
    """Codes [B, K, L] -> [B, L, latent_dim]."""
    rows = []
    for k in range(num_codebooks):
        level = graph.add("Gather", codes, graph.constant(k, np.int64), axis=1)
        table = graph.weight(f"quantizer.quantizers.{k}.codebook")
        rows.append(graph.add("Gather", table, level, axis=0))
    return layers.linear(graph, graph.add("Sum", *rows), "quantizer.output_proj")


def _deconvolve(graph: GraphBuilder, x: str) -> str:
    """[B, T, d_model] -> mel frames [B, num_mels, 2 * T]."""
    num_frames = graph.add("Mul", layers.dim_of(graph, x, 1), graph.ints(2))
    name = "acoustic_decoder.deconv1"
    first = layers.channels_first(graph, x)
    x = layers.gelu(graph, layers.transposed_convolution(graph, first, name, stride=2))
    x = layers.transposed_convolution(graph, x, "acoustic_decoder.deconv2")
    return layers.slice_axis(graph, layers.gelu(graph, x), graph.ints(0), num_frames, 2)


def _vocos_backbone(graph: GraphBuilder, mel: str, shape: VocosShape) -> str:
    """[B, num_mels, T] -> [B, T, dim]."""
    root = "enhanced_vocos.backbone"
    x = layers.channels_first(graph, layers.convolution(graph, mel, f"{root}.embed", padding=3))
    x = layers.layer_norm(graph, x, f"{root}.norm", VOCOS_NORM_EPS)
    for index in range(shape.num_layers):
        name = f"{root}.convnext.{index}"
        y = layers.channels_first(graph, x)
        y = layers.convolution(graph, y, f"{name}.dwconv", padding=3, groups=shape.dim)
        y = layers.channels_first(graph, y)
        y = layers.layer_norm(graph, y, f"{name}.norm", VOCOS_NORM_EPS)
        y = layers.gelu(graph, layers.linear(graph, y, f"{name}.pwconv1"))
        y = graph.add(
            "Mul", layers.linear(graph, y, f"{name}.pwconv2"), graph.weight(f"{name}.gamma")
        )
        x = graph.add("Add", x, y)
    return layers.layer_norm(graph, x, f"{root}.final_layer_norm", VOCOS_NORM_EPS)


def _inverse_stft(graph: GraphBuilder, features: str, shape: VocosShape) -> str:
    """[B, T, dim] -> samples [B, T * hop]."""
    n_fft = shape.n_fft
    spectrum = layers.linear(graph, features, "enhanced_vocos.head.out")
    log_magnitude, phase = graph.halve(spectrum, axis=2)
    magnitude = graph.add("Exp", log_magnitude)
    magnitude = graph.add("Min", magnitude, graph.constant(MAX_MAGNITUDE, np.float32))
    real = graph.add("Mul", magnitude, graph.add("Cos", phase))
    imaginary = graph.add("Mul", magnitude, graph.add("Sin", phase))
    window = graph.weight("enhanced_vocos.head.istft.window")
    # A real signal's bins count twice, but for the first and the last.
    counts = np.full((n_fft // 2 + 1, 1), 2.0 / n_fft)
    counts[[0, -1]] = 1.0 / n_fft
    cosines, sines = layers.fourier_basis(graph, n_fft)
    scale = graph.add("Mul", graph.constant(counts, np.float32), window)
    from_real = graph.add("MatMul", real, graph.add("Mul", cosines, scale))
    from_imaginary = graph.add("MatMul", imaginary, graph.add("Mul", sines, scale))
    frames = graph.add("Sub", from_real, from_imaginary)
    num_frames = layers.dim_of(graph, features, 1)
    ones = graph.ints(1)
    envelope_shape = graph.add("Concat", ones, num_frames, graph.ints(n_fft), axis=0)
    envelope = graph.add("Expand", graph.add("Mul", window, window), envelope_shape)
    summed = _overlap_add(graph, frames, shape)
    return graph.add("Div", summed, _overlap_add(graph, envelope, shape))


def _overlap_add(graph: GraphBuilder, frames: str, shape: VocosShape) -> str:
    """[B, T, n_fft] -> [B, T * hop]: shifted sums of hop-wide pieces, trimmed on both sides."""
    pieces = shape.n_fft // shape.hop
    split = graph.add("Reshape", frames, graph.ints(0, 0, pieces, shape.hop))
    shifted = []
    for j in range(pieces):
        piece = graph.add("Gather", split, graph.constant(j, np.int64), axis=2)
        shifted.append(graph.add("Pad", piece, graph.ints(0, j, 0, 0, pieces - 1 - j, 0)))
    flat = graph.add("Reshape", graph.add("Sum", *shifted), graph.ints(0, -1))
    margin = (shape.n_fft - shape.hop) // 2
    return layers.slice_axis(graph, flat, graph.ints(margin), graph.ints(-margin), 1)
