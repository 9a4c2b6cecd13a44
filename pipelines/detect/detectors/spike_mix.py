"""What another mix of features or tenants explains of a rise per call: each calls as usual, some call more often.

Of models and providers no mix is taken: where calls go to an expensive model, that is what ``spike`` is to find.
"""

from __future__ import annotations

import numpy as np

from pipelines.detect.windows import Floats, Windows

MIXED = ("feature", "tenant")


def mix_ratios(windows: Windows, calls: Floats, normal: Floats, app: int) -> Floats:
    """Return (series,): the multiple of its usual mean per call that a series has by the mix of others; from 1 on.

    Args:
        windows: the series and their dimensions.
        calls: (series,) in a window.
        normal: (series,) usual mean per call; 0 = not known, then it is taken to be that of the app.
        app: place of the whole app.
    """
    found = np.ones(len(calls))
    if normal[app] <= 0 or calls[app] <= 0:
        return found
    for dimension in MIXED:
        group = f"app,{dimension}"
        if group not in windows.groups:
            continue
        mine = windows.group[: len(calls)] == windows.groups.index(group)
        of = mine & windows.named[: len(calls)] & (normal > 0)
        excess = float((calls[of] * (normal[of] / normal[app] - 1.0)).sum()) / float(calls[app])
        found[~mine] = np.maximum(found[~mine], 1.0 + excess)
    return found
