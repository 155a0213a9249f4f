"""The runtime of a skill's pod: the server of a skill, and the check of a candidate.

PID 1 is this package and never executes a line of a skill. It starts a *zygote*, a process that loads the skill once
and forks a *worker* for each concurrent call; whatever these send back is treated as bytes of an enemy.
"""
