# SPDX-License-Identifier: Apache-2.0
"""Voices that people add: kept on disk, safe against crashes and for several processes.

    voices.db                            who they are (SQLite, write-ahead log)
    audio/ab/ab12....wav                 reference audio, named by its SHA-256
    codes/<codec version>/ab12....safetensors   what a codec made of it; can be made again

A file is renamed into its place, and its record committed, within one write transaction. What a
killed process left behind is hence recognised under the same lock, and removed.
"""
