# SPDX-License-Identifier: Apache-2.0
"""The HTTP door: OpenAI's speech API, dialogues, and a page to hear them.

A client of Triton's gRPC door like any other; what a caller sends beside the request itself
(headers, gRPC metadata) never goes any further than this.
"""
