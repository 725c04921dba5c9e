# SPDX-License-Identifier: Apache-2.0
"""Measurements of duologue that can be made again: workloads, loads, engines and reports.

| package | what it measures or makes |
|---|---|
| `engine` | steps of the language model, against this machine's floor and a plain loop |
| `stream` | streams through a door: closed and open loop, in process, and what the door costs |
| `reports` | the JSON document with its schema, Markdown tables, plots, comparisons |

`duologue bench` is the way in. Figures are pure functions of records that the loads collect, so
each figure is tested without a clock.
"""
