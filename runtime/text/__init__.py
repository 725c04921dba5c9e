# SPDX-License-Identifier: Apache-2.0
"""The text room: from what a caller wrote to the rows that the language model reads first.

A script passes through `script` (turns), `frontend` (numbers written out), `normalize`
(punctuation rules of the checkpoint), `tokenizer` and `prompt` (token rows and voice rows).
`timing` estimates how long turns last, `items` reads batch files.
"""
