"""The zoo: tiny real experts, trained by us, for the demo, the tests and the benchmarks."""

from mergery.zoo.build import build
from mergery.zoo.manifest import Member, Zoo
from mergery.zoo.members import DEMO_EXPERTS
from mergery.zoo.ready import ready_made

__all__ = ["DEMO_EXPERTS", "Member", "Zoo", "build", "ready_made"]
