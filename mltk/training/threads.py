"""How many threads the libraries below compute with, on which the last bits of convolutions depend."""

from __future__ import annotations

from mltk.contracts import Backend
from mltk.training.config import Config


def threads(backend: Backend) -> dict[str, int]:
    """The threads of BLAS, and of the backend's library if it says so; empty where neither can be asked."""
    found: dict[str, int] = {}
    try:
        from threadpoolctl import threadpool_info
    except ImportError:  # not everywhere, as in a browser
        pass
    else:
        pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        if pools:
            found["blas"] = max(pools)
    own = getattr(backend, "threads", None)
    return found if own is None else found | {backend.name: own}


def other_threads(old: Config, new: Config) -> str:
    """What to say where a run goes on with another number of threads; nothing if it does not."""
    before, now = old.get("threads"), new.get("threads", {})
    if not isinstance(before, dict):
        return ""
    other = [
        f"{name} {before[name]} before, {now[name]} now"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]
    if not other:
        return ""
    return (
        f"another number of threads ({'; '.join(other)}): convolutions and large sums may differ in their "
        "last bits from those of a run that was not interrupted"
    )
