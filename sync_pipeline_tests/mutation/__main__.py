"""Measure how many small changes of the core the tests notice: `python -m sync_pipeline_tests.mutation`.

Every mutant changes one thing in one module of `targets.TARGETS`: a comparison, a condition, a number, a word, a
statement, an argument of a query, a keyword of SQL (see `operators`). The test files of that module are run against it
until one fails; a mutant that no test notices survives. The score is the share of mutants that were noticed, without
those that `equivalents` lists, which change nothing that could be noticed.

    python -m sync_pipeline_tests.mutation --sample 100             # another sample with each --seed
    python -m sync_pipeline_tests.mutation sync/engine.py           # every mutant of a module
    python -m sync_pipeline_tests.mutation sync/engine.py --line 212
    python -m sync_pipeline_tests.mutation --list warehouse/staging.py

A mutant takes some ten seconds, two at a time: a sample of 100 some 20 minutes. First, each test file runs without a
change (`--no-baseline` skips that). Tests run in copies of the working tree; nothing in it is changed. Exits with 1
where the score is below `--minimum`.

It is a script of our own because mutmut 3 leaves out decorated functions and everything outside of functions, and
cosmic-ray runs one command for all mutants; neither changes SQL.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from sync_pipeline_tests.mutation.equivalents import reason_of
from sync_pipeline_tests.mutation.operators import find_mutants
from sync_pipeline_tests.mutation.runner import ROOT, Limits, Outcome, Result, TestsFailError, run
from sync_pipeline_tests.mutation.targets import TARGETS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    sources = {path: (ROOT / "sync_pipeline" / path).read_bytes() for path in options.modules or TARGETS}
    mutants = [mutant for path, source in sources.items() for mutant in find_mutants(path, source)]
    if options.line is not None:
        mutants = [mutant for mutant in mutants if mutant.line == options.line]
    candidates = [mutant for mutant in mutants if not reason_of(mutant)]
    if options.sample is not None:
        random.Random(options.seed).shuffle(candidates)  # noqa: S311
    valid = (mutant for mutant in candidates if mutant.is_valid(sources[mutant.path]))
    wanted = list(islice(valid, options.sample))
    if options.list:
        print(*wanted, sep="\n")
    left_out = len(mutants) - len(candidates)
    print(f"{len(mutants)} mutants, {left_out} of them equivalent; {len(wanted)} to test", flush=True)
    if options.list or not wanted:
        return 0
    results = []
    try:
        for result in run(
            [(mutant, TARGETS[mutant.path]) for mutant in wanted],
            workers=options.workers,
            seed=options.hypothesis_seed,
            limits=Limits(options.test_timeout, options.timeout),
            baseline=options.baseline,
        ):
            results.append(result)
            print(f"{len(results)}/{len(wanted)} {_line(result)}", flush=True)
    except TestsFailError as error:
        print(f"the tests fail without a change: {error}", file=sys.stderr)
        return 2
    return _report(results, options.minimum)


def _line(result: Result) -> str:
    mutant = result.mutant
    killer = f" by {result.killer}" if result.killer else ""
    return f"{result.outcome}{killer} in {result.seconds:.0f} s: {mutant.path}:{mutant.line} {mutant.after!r}"


def _report(results: Sequence[Result], minimum: float) -> int:
    decided = [result for result in results if result.outcome is not Outcome.UNDECIDED]
    tested = Counter(result.mutant.path for result in decided)
    killed = Counter(result.mutant.path for result in decided if result.outcome is Outcome.KILLED)
    print("\nkilled  tested  module")
    for path in sorted(tested):
        print(f"{killed[path]:6}  {tested[path]:6}  {path}")
    for outcome in (Outcome.UNDECIDED, Outcome.SURVIVED):
        if found := [result.mutant for result in results if result.outcome is outcome]:
            print(f"\n{outcome}:")
            print(*found, sep="\n")
    score = 100 * killed.total() / max(1, tested.total())
    print(f"\nscore: {score:.1f} %, {killed.total()} of {tested.total()} mutants killed")
    return 0 if score >= minimum else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sync_pipeline_tests.mutation", description="Measure how many small changes the tests notice."
    )
    parser.add_argument("modules", nargs="*", choices=[*TARGETS, []], metavar="MODULE", help="such as sync/engine.py")
    parser.add_argument("--sample", type=int, metavar="N", help="number of mutants to test, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="which sample (default: 0)")
    parser.add_argument("--hypothesis-seed", type=int, default=0, help="which examples hypothesis draws (default: 0)")
    parser.add_argument("--line", type=int, help="only mutants that begin on this line")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--workers", type=int, default=2, help="mutants tested at a time (default: 2)")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S", help="of one mutant (default: 900)")
    parser.add_argument("--test-timeout", type=float, default=120.0, metavar="S", help="of one test (default: 120)")
    parser.add_argument("--no-baseline", dest="baseline", action="store_false", help="do not run unchanged code first")
    parser.add_argument(
        "--minimum", type=float, default=95.0, metavar="PERCENT", help="lowest good score (default: 95)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
