"""Check one data set and leave its arrays prepared for every run that follows. Run by Snakefile.

python tools/check_data.py fer2013 build/grid/data/fer2013-0123456789abcdef.json
"""

import argparse
import json
import sys
from pathlib import Path

from fer_utils.cli import for_a_reader
from fer_utils.datasets import FaceDataset, array_hash, load
from fer_utils.ferplus import KEEP
from fer_utils.manifests import DataError, dataset_names
from fer_utils.training.checkpoints import write_atomically

# Other options of a loader that runs may choose and that give other images or labels.
READINGS = {"ferplus": [{"keep": keep} for keep in KEEP]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=dataset_names(), help="%(choices)s", metavar="dataset")
    parser.add_argument("out", type=Path, help="written last, and only where the data are right")
    options = parser.parse_args()
    try:
        found = check(options.dataset)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, json.dumps(found).encode())
    except DataError as error:
        sys.exit(f"  {options.dataset}: {error}")
    except OSError as error:
        from train import sentence  # not above: it takes seconds

        sys.exit(f"  {options.dataset}  not checked: {sentence(error)}.")
    print(f"  {options.dataset}  checked", flush=True)


def check(dataset: str) -> dict:
    """What a later look at the data is compared with.

    Raises:
        DataError: they are not what the manifest says.
    """
    found = {"dataset": dataset, "images": None, "sources": {}, "arrays": None}
    if dataset != "synthetic":  # drawn by each run
        # Finding faces takes a minute, and each run does it with the options it wants.
        data = load(dataset, **({"crop": "centre"} if dataset == "ckplus" else {}))
        found |= {"images": len(data), "sources": data.hashes}
        if dataset != "ckplus":
            found["arrays"] = sorted(
                {
                    _arrays(data),
                    *(_arrays(load(dataset, **how)) for how in READINGS.get(dataset, ())),
                }
            )
    return found


def _arrays(data: FaceDataset) -> str:
    """What a record has of its data before any preprocessing."""
    return array_hash(data.images, data.labels)


if __name__ == "__main__":
    with for_a_reader():
        main()
