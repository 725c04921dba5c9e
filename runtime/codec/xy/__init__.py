# SPDX-License-Identifier: Apache-2.0
"""The XY-Tokenizer, the codec of MOSS-TTSD v0.5 and v0.7 (OpenMOSS/MOSS-TTSD, XY_Tokenizer/)."""
