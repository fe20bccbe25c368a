"""NSGA-II against brute force, and on fronts that are known."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm
from mergery.evolve.algorithms.nsga2 import survivors
from mergery.evolve.algorithms.pareto import front_indices, hypervolume


def zdt1(point):
    """E. Zitzler, K. Deb and L. Thiele (2000): the front is f2 = 1 - sqrt(f1), where all but x1 are 0."""
    x = np.array(point)
    rest = 1 + 9 * x[1:].mean()
    return float(x[0]), float(rest * (1 - math.sqrt(x[0] / rest)))


def dtlz2(point):
    """K. Deb et al. (2002), three losses: the front is an eighth of the unit sphere, all from x3 on 0.5."""
    x = np.array(point)
    radius = 1 + float(((x[2:] - 0.5) ** 2).sum())
    one, two = x[:2] * math.pi / 2
    return (
        radius * math.cos(one) * math.cos(two),
        radius * math.cos(one) * math.sin(two),
        radius * math.sin(one),
    )


PROBLEMS = {"zdt1": (zdt1, 6, (1.1, 6.0)), "dtlz2": (dtlz2, 6, (1.5, 1.5, 1.5))}


@cache
def search(algorithm, name, rounds, seed, population=None):
    function, dimensions, corner = PROBLEMS[name]
    problem = Problem((0.5,) * dimensions, objectives=len(corner))
    run = get_algorithm(algorithm).start(problem, AlgorithmSettings(seed=seed, population=population))
    losses = []
    for _ in range(rounds):
        (proposal,) = run.ask()
        losses.append(function(proposal.point))
        run.tell(proposal, Outcome(losses[-1]))
    return losses


@pytest.mark.parametrize("name", PROBLEMS)
def test_its_front_covers_more_than_that_of_random_search_at_equal_evaluations(name):
    corner = PROBLEMS[name][2]
    ours, plain = (
        [hypervolume(search(algorithm, name, 200, seed), corner) for seed in range(6)]
        for algorithm in ("nsga2", "random")
    )
    assert np.mean(ours) > 1.05 * np.mean(plain)
    assert all(one > other for one, other in zip(ours, plain, strict=True))


def test_it_reaches_the_front_of_zdt1():
    losses = np.array(search("nsga2", "zdt1", 2500, 1, 24))
    # below the front, the unit square has 1 - 2/3
    assert 0.63 < hypervolume(losses, (1, 1)) < 2 / 3
    front = losses[front_indices(losses)]
    ends = np.sort(front[:, 0])
    assert ends[0] < 0.02
    assert ends[-1] > 0.9
    assert np.diff(ends).max() < 0.15


def test_it_reaches_the_front_of_dtlz2():
    losses = np.array(search("nsga2", "dtlz2", 1500, 1, 32))
    last = np.linalg.norm(losses[-100:], axis=1) - 1
    assert np.median(last) < 0.02
    assert 0.38 < hypervolume(losses, (1, 1, 1)) < 1 - math.pi / 6


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("levels", [4, 10_000])
def test_survivors_are_those_of_the_papers_loops(objectives, levels):
    for seed in range(4):
        losses = np.random.default_rng(seed).integers(0, levels, (24, objectives)).astype(float)
        chosen = survivors(losses, 11)[0].tolist()
        fronts, spare = _fronts(losses.tolist()), 11
        for front in fronts:
            taken = [place for place in chosen if place in front]
            assert len(taken) == min(spare, len(front))
            crowding = _crowding(losses[front])
            kept = sorted((crowding[front.index(place)] for place in taken), reverse=True)
            assert kept == pytest.approx(sorted(crowding, reverse=True)[: len(taken)])
            spare -= len(taken)


def _fronts(rows):
    """Deb's fast-non-dominated-sort, loop by loop."""
    dominated = [[] for _ in rows]
    counts = [0] * len(rows)
    for p, one in enumerate(rows):
        for q, other in enumerate(rows):
            if all(a <= b for a, b in zip(one, other, strict=True)) and one != other:
                dominated[p].append(q)
                counts[q] += 1
    fronts = [[place for place, count in enumerate(counts) if count == 0]]
    while fronts[-1]:
        following = []
        for p in fronts[-1]:
            for q in dominated[p]:
                counts[q] -= 1
                if counts[q] == 0:
                    following.append(q)
        fronts.append(sorted(following))
    return fronts[:-1]


def _crowding(rows):
    """Deb's crowding-distance-assignment, loop by loop."""
    distance = [0.0] * len(rows)
    for column in np.array(rows).T.tolist():
        order = sorted(range(len(column)), key=lambda place: column[place])
        span = column[order[-1]] - column[order[0]]
        if span == 0:
            continue
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, place, after in zip(order, order[1:-1], order[2:], strict=False):
            distance[place] += (column[after] - column[before]) / span
    return distance


def test_failures_lose_to_everything():
    problem = Problem((0.5,) * 4, objectives=2)
    run, failed = get_algorithm("nsga2").start(problem, AlgorithmSettings(seed=2)), []
    for _ in range(160):
        (proposal,) = run.ask()
        fails = proposal.point[1] < 0.5
        failed.append(fails)
        # one loss would be better than anybody's
        run.tell(proposal, Outcome((-1.0, math.nan) if fails else zdt1(proposal.point)))
    # half of the cube fails, and so does half of what is spread over it
    assert sum(failed[-40:]) <= 4 < 7 <= sum(failed[:16])


def test_known_points_are_tried_first_and_bred_from():
    # the front itself is known in two points
    known = (("one", (0.2, 0.0, 0.0, 0.0)), ("other", (0.8, 0.0, 0.0, 0.0)))
    problem = Problem((0.5,) * 4, known=known, objectives=2)
    run = get_algorithm("nsga2").start(problem, AlgorithmSettings(seed=3))
    points = []
    for _ in range(64):
        (proposal,) = run.ask()
        points.append(proposal.point)
        run.tell(proposal, Outcome(zdt1(proposal.point)))
    assert points[:3] == [problem.start, known[0][1], known[1][1]]
    near = [point for point in points[32:] if max(point[1:]) < 0.1]
    assert len(near) > 8


def test_choices_are_searched_and_no_candidate_is_asked_for_twice():
    # of five values the fourth has the front
    problem = Problem((0.5,) * 3, choices=(5, 0, 4), objectives=2)
    run, values, points = get_algorithm("nsga2").start(problem, AlgorithmSettings(seed=4)), [], []
    for _ in range(120):
        (proposal,) = run.ask()
        value = min(4, int(5 * proposal.point[0]))
        values.append(value)
        points.append((value, proposal.point[1], int(4 * proposal.point[2])))
        x = proposal.point[1]
        run.tell(proposal, Outcome((x + abs(value - 3), 1 - x + abs(value - 3))))
    assert set(values[:16]) == set(range(5))
    assert sum(value == 3 for value in values[-40:]) > 20
    assert len(dict.fromkeys(points)) == len(points)


def test_workers_never_wait_for_a_generation():
    problem = Problem((0.5,) * 4, objectives=2)
    run = get_algorithm("nsga2").start(problem, AlgorithmSettings(seed=5, population=8))
    out = list(run.ask(20))
    assert len(out) == 20
    # the slowest worker's first point is told last
    slow = out.pop(0)
    for _ in range(60):
        proposal = out.pop(0)
        run.tell(proposal, Outcome(zdt1(proposal.point)))
        out += run.ask(1, (*out, slow))
    run.tell(slow, Outcome(zdt1(slow.point)))
    assert len(out) == 19
    origins = [proposal.origin for proposal in out]
    assert set(origins) == {"nsga2"}
