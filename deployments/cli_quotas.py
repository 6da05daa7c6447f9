"""How `guildhall explain --placement` shows who may use how much of which node."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from deployments.cli_output import open_stdout, write_json

_MIB = 2**20


def show_quotas(fleet: Mapping[str, Any], as_json: bool) -> None:
    """The quotas of a body of /v1/fleet, node by node, with the reason of each."""
    quotas = fleet["quotas"]
    if as_json:
        write_json({"object": "placement", "quotas": quotas})
        return
    out = open_stdout()
    if not quotas:
        out.print("no engine runs at present; `guildhall status` says why")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("node", "device", "engine", "running", "waiting", "quota", "uses", "wants", "floor", "turn"):
        table.add_column(column)
    for quota in quotas:
        table.add_row(
            quota["node"][:8],
            quota["device"],
            f"[bold]{escape(quota['engine'])}[/]",
            str(quota["running"]),
            str(quota["waiting"]),
            *(
                f"{quota[key] / _MIB:.1f} MiB"
                for key in ("in_force_bytes", "used_bytes", "wanted_bytes", "floor_bytes")
            ),
            str(quota["turn"]),
        )
    out.print(table)
    for quota in quotas:
        out.print(f"  {escape(quota['engine'])}: {escape(quota['reason'])}")
