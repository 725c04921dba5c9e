# SPDX-License-Identifier: Apache-2.0
"""Engines of the language model: the only room with tensors on a device."""
