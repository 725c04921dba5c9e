# SPDX-License-Identifier: Apache-2.0
"""Many dialogues from a file, written as WAV files: resumable, a bad line never stops the rest."""
