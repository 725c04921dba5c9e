# SPDX-License-Identifier: Apache-2.0
"""Dialogues made on the spot with espeak-ng, to train the default voice from nothing."""
