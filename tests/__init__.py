"""covtrack's tests. What holds for all of Hypothesis' tests is said here, before any is made.

CI's machines are busy: how long an example takes says nothing there.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "covtrack", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("covtrack")
