# SPDX-License-Identifier: Apache-2.0
"""From measured numbers to a checked document, tables, plots and comparisons."""
