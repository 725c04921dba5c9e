# SPDX-License-Identifier: Apache-2.0
"""Starts, checks and stops a tritonserver of our own."""
