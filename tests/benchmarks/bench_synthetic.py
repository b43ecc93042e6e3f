"""How many faces a second one core draws: python tests/benchmarks/bench_synthetic.py [count]."""

import sys
import time

from fer_utils.synthetic import generate


def main(count: int = 6000, repeats: int = 3) -> None:
    generate(120)  # pages and caches
    rates = []
    for repeat in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        generate(count, seed=repeat)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        rates.append(count / processor)
        print(f"{count} images: {wall:.2f} s on the clock, {processor:.2f} s of processor time")
    # Drawing is single-threaded, so processor time is one core's, however busy the machine.
    print(f"images/s per core: {min(rates):.0f} to {max(rates):.0f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
