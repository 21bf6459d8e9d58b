"""Medians of the rounds, as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from load import Job, Sample

Samples = dict[tuple[str, str], list[Sample]]
"""The samples of each job and contender, one for each round that counts."""


def cost_table(jobs: list[Job], samples: Samples) -> list[str]:
    """Returns CPU and throughput of each job."""
    lines = [
        "| job | nginx µs | router µs | router / nginx (rounds) | HTTPRoute / ModelRoute (rounds)"
        + " | user µs nginx, router | nginx /s | router /s | direct /s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    beside = [job for job in jobs if (job.name, "nginx") in samples]
    for job in beside:
        nginx, router, httproute, direct = (
            samples[job.name, name]
            for name in ("nginx", "router", "httproute", "direct")
        )
        cells = [
            f"{job.title}, per {job.unit}",
            micros(middle(nginx, cost_of)),
            micros(middle(router, cost_of)),
            ratio(router, nginx),
            ratio(httproute, router),
            ", ".join(micros(middle(each, user_cost_of)) for each in (nginx, router)),
            *(thousands(middle(each, rate_of)) for each in (nginx, router, direct)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines if beside else []


def coding_table(jobs: list[Job], samples: Samples) -> list[str]:
    """Returns what a content coding costs."""
    lines = ["| job | router µs | user µs | to the first (rounds) |", "|---|--:|--:|--:|"]
    measured = [job for job in jobs if job.coding]
    for job in measured:
        first, runs = (samples[one.name, "router"] for one in (measured[0], job))
        costs = (micros(middle(runs, figure)) for figure in (cost_of, user_cost_of))
        lines.append("| " + " | ".join([job.title, *costs, ratio(runs, first)]) + " |")
    return lines if measured else []


def before_table(jobs: list[Job], samples: Samples) -> list[str]:
    """Returns what an older build costs, if one was given."""
    lines = [
        "| job | before µs | router µs | router / before (rounds) | before / nginx (rounds) |",
        "|---|--:|--:|--:|--:|",
    ]
    measured = [job for job in jobs if (job.name, "before") in samples]
    for job in measured:
        before, router, nginx = (samples[job.name, name] for name in ("before", "router", "nginx"))
        costs = (micros(middle(runs, cost_of)) for runs in (before, router))
        cells = [f"{job.title}, per {job.unit}", *costs, ratio(router, before), ratio(before, nginx)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines if measured else []


def pool_table(jobs: list[Job], samples: Samples) -> list[str]:
    """Returns what it costs to pick an endpoint of an InferencePool."""
    lines = [
        "| job | HTTPRoute to a Service µs | to an InferencePool µs"
        + " | with an endpoint picker µs | pool / Service (rounds) |",
        "|---|--:|--:|--:|--:|",
    ]
    measured = [job for job in jobs if (job.name, "pool") in samples]
    for job in measured:
        service, pool, picker = (
            samples[job.name, name] for name in ("httproute", "pool", "picker")
        )
        costs = (micros(middle(runs, cost_of)) for runs in (service, pool, picker))
        cells = [f"{job.title}, per {job.unit}", *costs, ratio(pool, service)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines if measured else []


def pair_table(jobs: list[Job], samples: Samples) -> list[str]:
    """Returns what a second leg costs."""
    lines = [
        "| job | one leg µs | two, NIXL µs | two, SGLang µs"
        + " | NIXL / one leg (rounds) | SGLang / one leg (rounds) |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    measured = [job for job in jobs if (job.name, "nixl") in samples]
    for job in measured:
        one, nixl, sglang = (
            samples[job.name, name] for name in ("router", "nixl", "sglang")
        )
        costs = (micros(middle(runs, cost_of)) for runs in (one, nixl, sglang))
        ratios = (ratio(runs, one) for runs in (nixl, sglang))
        cells = [f"{job.title}, per {job.unit}", *costs, *ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return lines if measured else []


def latency_table(jobs: list[Job], samples: Samples) -> list[str]:
    """Returns how long whole answers take on one connection."""
    lines = [
        "| latency in µs | direct p50, p99 | nginx p50, p99 | router p50, p99 |",
        "|---|--:|--:|--:|",
    ]
    single = [job for job in jobs if job.connections == 1]
    for job in single:
        cells = [job.title]
        for name in ("direct", "nginx", "router"):
            runs = samples[job.name, name]
            cells.append(f"{middle(runs, p50_of):.0f}, {middle(runs, p99_of):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines if single else []


def noise(samples: Samples) -> str:
    """Returns how much others used the proxies' core."""
    shares = [sample.foreign for runs in samples.values() for sample in runs]
    typical, worst = median(shares) * 100, max(shares) * 100
    return (
        "Used by others on the proxies' core: "
        f"{typical:.0f} % of a run, at most {worst:.0f} %."
    )


def ratio(ours: list[Sample], theirs: list[Sample]) -> str:
    """Returns the ratio of the medians, and the range of the rounds' ratios."""
    rounds = [one.cost / other.cost for one, other in zip(ours, theirs, strict=True)]
    whole = middle(ours, cost_of) / middle(theirs, cost_of)
    return f"{whole:.2f} ({min(rounds):.2f} to {max(rounds):.2f})"


def middle(runs: list[Sample], figure: Callable[[Sample], float]) -> float:
    """Returns the median of one figure."""
    return median(figure(sample) for sample in runs)


def cost_of(sample: Sample) -> float:
    """Returns the CPU time per unit."""
    return sample.cost


def user_cost_of(sample: Sample) -> float:
    """Returns the CPU time per unit that was spent outside of the kernel."""
    return sample.cost * sample.user_share


def rate_of(sample: Sample) -> float:
    """Returns the units per second."""
    return sample.rate


def p50_of(sample: Sample) -> float:
    """Returns the median latency of the run."""
    return sample.p50


def p99_of(sample: Sample) -> float:
    """Returns the latency that one in a hundred exceeds."""
    return sample.p99


def micros(number: float) -> str:
    """Writes a duration with about three digits."""
    return f"{number:.3f}" if number < 1 else f"{number:.1f}"


def thousands(number: float) -> str:
    """Writes a rate."""
    return f"{number / 1000:.1f}k" if number >= 1000 else f"{number:.0f}"
