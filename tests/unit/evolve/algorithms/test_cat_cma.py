from __future__ import annotations

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm

CHOICES = (4, 4, 4, 0, 0, 0)
RIGHT = (2, 0, 3)


def loss(point):
    """A wrong choice costs one; the numbers' optimum depends on no choice."""
    chosen = [min(3, int(4 * value)) for value in point[:3]]
    return sum(a != b for a, b in zip(chosen, RIGHT, strict=True)) + sum((x - 0.3) ** 2 for x in point[3:])


def search(name, trials, seed):
    run = get_algorithm(name).start(Problem((0.5,) * 6, choices=CHOICES), AlgorithmSettings(seed=seed))
    found = []
    for _ in range(trials):
        (proposal,) = run.ask()
        found.append(loss(proposal.point))
        run.tell(proposal, Outcome((found[-1],)))
    return found


def test_choices_and_numbers_are_found_together():
    for seed in range(3):
        assert min(search("cat-cma", 400, seed)) < 0.01 < min(search("random", 400, seed))


def test_it_begins_at_the_start():
    """Most first choices are the start's, and others are tried, too."""
    run = get_algorithm("cat-cma").start(Problem((0.9, 0.5), choices=(4, 0)), AlgorithmSettings(seed=1))
    first = [min(3, int(4 * proposal.point[0])) for proposal in run.ask(200)]
    assert 0.6 < first.count(3) / 200 < 0.8
    assert all(first.count(value) for value in range(4))


def test_a_space_of_choices_alone_and_one_of_numbers_alone():
    for choices in ((3, 3), (0, 0)):
        run = get_algorithm("cat-cma").start(Problem((0.5, 0.5), choices=choices), AlgorithmSettings())
        for _ in range(60):
            (proposal,) = run.ask()
            run.tell(proposal, Outcome((sum(proposal.point),)))
