"""Costs against those that a third-party library computed from 1,577 real usage objects (shared/data).

Printed: agreement to 1e-9 USD by provider; every disagreement with its reason; the same with the rates that ship, where
the library's data have been corrected since. The last line is {"usages", "usages_agree", "costs", "costs_agree",
"unexplained", ...}. The exit code is 1 where a disagreement has no reason.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

from _report import REPO, machine, report

sys.path.insert(0, str(REPO / "tests" / "exchanges"))

from exchange_harness import data, oracle


def by_provider(found: Iterable[oracle.Reading]) -> None:
    """Print (provider, prices compared, prices that agree)."""
    compared: Counter[str] = Counter()
    agree: Counter[str] = Counter()
    for reading in found:
        compared[reading.provider] += 1
        agree[reading.provider] += reading.agrees
    print(f"{'provider':<28}{'compared':>10}{'agree':>10}")
    for provider, count in sorted(compared.items()):
        print(f"{provider:<28}{count:>10}{agree[provider]:>10}")


def table(found: Iterable[oracle.Reading]) -> None:
    """Print the disagreements: count, shape, provider, model, reason."""
    print(f"{'n':>4} {'shape':<12}{'provider':<10}{'model':<36}reason")
    for (shape, provider, model, reason), count in sorted(oracle.disagreements(found).items(), key=str):
        print(f"{count:>4} {shape:<12}{provider:<10}{model:<36}{reason or 'NONE: a defect'}")


def main() -> int:
    print(machine("genai-prices", "duckdb", "pyarrow"), flush=True)
    if not (data.folder() / "payloads").is_dir():
        print("oracle left out: no recorded data (set TAILRACE_TEST_DATA)")
        return 0
    cases = data.rows("usage_price_oracle")
    found = oracle.readings(cases, oracle.books(library_rates=True))
    by_provider(found)
    table(found)
    agreement = oracle.agreement(cases, found)
    shipped = oracle.readings(cases, oracle.books(library_rates=False))
    before = {(r.number, r.provider, r.flavor) for r in found if not r.agrees}
    changed = [r for r in shipped if not r.agrees and (r.number, r.provider, r.flavor) not in before]
    print("with the rates that ship, corrected since the library computed its prices:")
    for (provider, model), count in sorted(Counter((r.provider, r.model) for r in changed).items()):
        print(f"{count:>4} {provider:<10}{model}")
    without, same = oracle.only_tokens(cases, found)
    figures = {
        "usages": agreement.usages,
        "usages_agree": agreement.usages_agree,
        "costs": agreement.costs,
        "costs_agree": agreement.costs_agree,
        "costs_agree_share": round(agreement.costs_agree / agreement.costs, 5),
        "without_price": without,
        "tokens_agree": same,
        "corrected_since": len(changed),
        "unexplained": agreement.unexplained,
    }
    report(figures, "genai-prices", "duckdb", "pyarrow")
    return int(agreement.unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
