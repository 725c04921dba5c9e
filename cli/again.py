# SPDX-License-Identifier: Apache-2.0
"""A command line once more, from what was understood of it."""

from __future__ import annotations

import sys
from collections.abc import Collection
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer


def command_again(ctx: typer.Context, without: Collection[str] = ()) -> list[str]:
    """The command line of a running verb, for a process of its own.

    Args:
        ctx: of the verb.
        without: names of parameters that are left out.
    """
    command = [sys.executable, "-m", "duologue.cli", str(ctx.command.name)]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if parameter.name in without or value is None or value is False:
            continue
        name = next(option for option in parameter.opts if option.startswith("--"))
        if value is True:
            command.append(name)
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            command += [name, _text(each)]
    return command


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)
