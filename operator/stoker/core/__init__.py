"""Every decision of the operator, pure: (view, now) -> plan.

Nothing here waits, reads a clock, draws a number or talks to anything. What is seen comes in as a view; what to do goes
out as a plan, a value that tests print. Start with `trainingjob/`, then `cluster/`.
"""
