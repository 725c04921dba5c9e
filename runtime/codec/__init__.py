# SPDX-License-Identifier: Apache-2.0
"""The codec room: codes to samples and back, and the windows in which a stream is decoded."""
