# SPDX-License-Identifier: Apache-2.0
"""The rules of the language model's game: delay pattern, sampling, sequences, scheduling."""
