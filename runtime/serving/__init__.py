# SPDX-License-Identifier: Apache-2.0
"""The room that knows Triton: models, tensors, errors and finals.

`triton_python_backend_utils` is handed in as a parameter, so that all of it runs in tests
against a fake.
"""
