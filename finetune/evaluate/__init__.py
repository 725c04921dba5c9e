# SPDX-License-Identifier: Apache-2.0
"""Measures of generated speech against a reference rendering of the same dialogues.

Nothing here listens like a person: words are judged by which reference a sentence is closest to,
speakers by pitch and timbre, both of which need references in known voices.
"""
