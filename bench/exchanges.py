"""Recorded exchanges (shared/data) through the clients: what lands beside an independent reading of each.

Every exchange that the SDK of OpenAI, Anthropic (also on Bedrock) or Google GenAI has a method for is replayed through
it. Operation, tokens, units, model, response model, provider, finish reason, status, error, tier, response id and cost
are compared; the cost of the reading is that of genai-prices itself. Usage objects of other APIs are compared in their
tokens. Printed by provider and endpoint: compared, agreed, explained; then what is not comparable and why; then every
difference. The last line is {"exchanges", "compared", "agreed", "explained", "unexplained", ...}. The exit code is 1
where a difference has no reason.
"""

from __future__ import annotations

import sys
from collections import Counter

from _report import REPO, machine, report

sys.path.insert(0, str(REPO / "tests" / "exchanges"))

from exchange_harness import compare, data, native, replay, sdks

LIBRARIES = ("openai", "anthropic", "google-genai", "genai-prices")


def main() -> int:
    print(machine(*LIBRARIES), flush=True)
    if not (data.folder() / "payloads").is_dir():
        print("exchanges left out: no recorded data (set TAILRACE_TEST_DATA)")
        return 0
    exchanges = data.rows("provider_exchanges")
    tallies = [compare.openai_exchanges(exchanges), compare.native_exchanges(exchanges)]
    compared, agreed, explained = (
        sum((getattr(tally, name) for tally in tallies), Counter[tuple[str, str]]())
        for name in ("compared", "agreed", "explained")
    )
    left_out = sum((tally.left_out for tally in tallies), compare.no_client(exchanges))
    print(f"{'provider':<14}{'endpoint':<30}{'compared':>9}{'agreed':>8}{'explained':>10}")
    for where, count in sorted(compared.items()):
        print(f"{where[0]:<14}{where[1]:<30}{count:>9}{agreed[where]:>8}{explained[where]:>10}")
    print("not comparable:")
    for (provider, why), count in sorted(left_out.items()):
        print(f"{count:>5} {provider:<14}{why}")
    for (name, number), why in compare.reasons().items():
        print(f"explained: {name}#{number}: {why}")
    others = [e for e in exchanges if replay.endpoint(e) is None and sdks.endpoint(e) is None]
    usages = native.usages(others)
    print("tokens only, of APIs without a supported client:")
    for (provider, shape), count in sorted(usages.compared.items()):
        print(f"{provider:<14}{shape:<30}{count:>9}{usages.agreed[provider, shape]:>8}")
    differences = [each for tally in (*tallies, usages) for each in tally.differences]
    for name, provider, column, recorded, read in differences:
        print(f"DIFFERS: {provider} {name} {column}: {recorded!r} landed, {read!r} read")
    figures = {
        "exchanges": len(exchanges),
        "compared": compared.total(),
        "agreed": agreed.total(),
        "explained": explained.total(),
        "unexplained": len({name for name, *_ in differences}),
        "not_comparable": left_out.total(),
        "usages_compared": usages.compared.total(),
        "usages_agreed": usages.agreed.total(),
    }
    report(figures, *LIBRARIES)
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
