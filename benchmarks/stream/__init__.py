# SPDX-License-Identifier: Apache-2.0
"""Streams of audio under load, as their callers see them."""
