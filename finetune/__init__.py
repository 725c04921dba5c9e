# SPDX-License-Identifier: Apache-2.0
"""Training: data preparation, the language model, the codec, and the measures of what comes out.

`prepare` makes datasets of audio and text, `lm_trainer` trains the language model on them,
`codec_trainer` trains a codec, `evaluate` measures speech, `speech_data` makes training speech.
"""
