# SPDX-License-Identifier: Apache-2.0
"""What `duologue doctor` looks at. Nothing here needs more than the base install to be imported."""
