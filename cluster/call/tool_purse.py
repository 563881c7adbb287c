"""Money for tools: one that has a price runs only when that is held, so that no cap is passed by a tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.call.account import Account
    from cluster.call.heartbeat import Heartbeat


class ToolPurse:
    """Of one call."""

    def __init__(self, account: Account, heartbeat: Heartbeat) -> None:
        self._account = account
        self._heartbeat = heartbeat

    async def pays(self, tool: str) -> bool:
        """Put one run of the tool on the bill; False where there is no money for it, or nobody says that there is."""
        if self._account.assignment.tariff.tools.get(tool):
            with self._account.about_to_run(tool):
                if not await self._heartbeat.allows():
                    return False
        self._account.tool_ran(tool)
        return True
