"""`megacity costs`: what requests have used and cost, straight from the store of a profile."""

import argparse
import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.config import Settings

GROUPS = ("model", "tenant", "user", "zone", "engine", "key", "node_class", "day")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", choices=GROUPS, default="model", help="what to group by (default: model)")
    parser.add_argument("--from", dest="since", type=_moment, metavar="TIME", help="such as 2026-11-01 (UTC)")
    parser.add_argument("--to", dest="until", type=_moment, metavar="TIME", help="up to this moment, and not with it")
    parser.add_argument("--tenant", help="one tenant only")


def run(options: argparse.Namespace, settings: "Settings") -> Any:
    """The report, as data if `options.json` is set, else as text."""
    report = asyncio.run(_report(options, settings))
    if options.json:
        return report
    head = f"{options.by:<28} {'requests':>9} {'in':>11} {'out':>11} {'engine s':>10} {'cost $':>16} {'saved $':>16}"
    return "\n".join([head, *(_line(row, row[options.by] or "-") for row in report["data"]), _total(report)])


async def _report(options: argparse.Namespace, settings: "Settings") -> dict[str, Any]:
    from serve_app.api.finops import report
    from serve_app.services.ledger import Ledger
    from serve_app.services.store import Store

    store = Store(settings.store.url)
    try:
        found = await report(Ledger(store), options.by, options.since, options.until, options.tenant)
    finally:
        await store.close()
    return found.model_dump(exclude_unset=True)


def _line(row: dict[str, Any], name: str) -> str:
    tokens = f"{row['prompt_tokens']:>11} {row['completion_tokens']:>11}"
    money = f"{row['cost_usd']:>16.9f} {row['saved_usd']:>16.9f}"
    return f"{name:<28} {row['requests']:>9} {tokens} {row['engine_s']:>10.1f} {money}"


def _total(report: dict[str, Any]) -> str:
    return f"{'total':<28} {sum(row['requests'] for row in report['data']):>9} {report['total_usd']:>51.9f}"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
