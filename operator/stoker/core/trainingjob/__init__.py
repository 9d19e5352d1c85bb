"""One TrainingJob: where it stands, why it waits, what to do next.

Read `stands.py` first (the table), then `waits.py` and `obstacles.py` (why it waits), `attempts.py` (what is seen of
pods and seals), `ending.py` (how it ended), `status.py` (what is shown, and when).
"""

from stoker.core.trainingjob.plan import demand, holdings, plan, why

__all__ = ["demand", "holdings", "plan", "why"]
