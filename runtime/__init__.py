# SPDX-License-Identifier: Apache-2.0
"""Everything that turns a script into audio; importable without Triton and without a GPU."""
