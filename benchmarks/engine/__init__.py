# SPDX-License-Identifier: Apache-2.0
"""Steps of the language model per engine, against the machine's floor and a plain loop."""
