# SPDX-License-Identifier: Apache-2.0
"""Checkpoints to bundles: weights once as safetensors, graphs and engines that refer to them."""
