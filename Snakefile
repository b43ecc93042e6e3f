# The whole way: data check -> prepared arrays -> training runs -> executed chapters -> book.
#
#   make book, make reproduce     what most want; they call this file with a line of progress
#   snakemake -n reproduce        the runs that would be made
#   tools/reproduce.py --profile workflow/profiles/slurm   on a cluster; see the profile
#
# Which runs there are stands in data_manifests/published and is read by fer_utils/grid; tools/ has
# the steps. A run's files carry a hash of its code, parameters, data and versions in their name, so
# what is there under that name is its result, and times of files mean nothing.
#
# --config paper=yengikand2023 table="Table II" seeds="0 1 2" hours=2   narrow the grid
#          only="ck48-stratified"   runs whose names begin so, and those whose weights they start from
#          smoke=true      every variant for one short epoch on synthetic faces
#          results=FOLDER  where records are kept; results/ unless smoke
#          runs=FOLDER     where checkpoints are kept; unless said, beside the runs in build/
#          gpu=1           GPUs a training takes; --resources gpu=1 keeps two from sharing it here
#          checks=0        a data check that failed is not tried again
#          profile=smoke   of the chapters

import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path

from fer_utils import grid

# A pod of Kubernetes has this folder, and no package installed from it.
PYTHON = f"PYTHONPATH={shlex.quote(str(grid.ROOT))} {shlex.quote(sys.executable)}"
SMOKE = str(config.get("smoke", "")).lower() in ("1", "true", "yes")
BUILD = "build/smoke-grid" if SMOKE else "build/grid"
RESULTS = config.get("results", "build/smoke-grid/records" if SMOKE else "results")
GPU = {"gpu": int(config["gpu"])} if int(config.get("gpu", 0)) else {}
RUNS = f"--runs {shlex.quote(str(config['runs']))}" if config.get("runs") else ""


@cache
def planned():
    return {
        run.name: run
        for run in grid.chosen(
            paper=config.get("paper"),
            table=config.get("table"),
            seeds=config.get("seeds"),
            smoke=SMOKE,
            only=config.get("only"),
        )
    }


@cache
def preparations():
    return {found.name: found for run in planned().values() for found in grid.preparations(run)}


def planned_run(wildcards):
    if wildcards.name not in planned():
        raise WorkflowError(
            f"{wildcards.name}: no run of the grid has this name now; its code, data or versions "
            "have changed since the workflow was started. Start it again."
        )
    return planned()[wildcards.name]


def planned_preparation(wildcards):
    if wildcards.name not in preparations():
        raise WorkflowError(
            f"{wildcards.name}: no run needs this preparation now; code, data or versions have "
            "changed since the workflow was started. Start it again."
        )
    return preparations()[wildcards.name]


def checked(dataset):
    return str(grid.checked_data(dataset).relative_to(grid.ROOT))


def done_file(run):
    return f"{BUILD}/{run.paper}/{run.name}/done.json"


def before_a_run(wildcards):
    """The check of its data, their preparation, and the runs it starts from."""
    run = planned_run(wildcards)
    files = [checked(run.dataset)]
    files += [str(grid.prepared_file(name).relative_to(grid.ROOT)) for name in run.prepared]
    files += [done_file(planned()[name]) for name in run.first]
    files += [done_file(planned()[name]) for name in run.after if grid.is_to_run(planned()[name])]
    return there_in_any_order(files)


def there_in_any_order(files):
    """Inputs whose times do not count. Snakemake fails all that comes after a file of the future."""
    for file in files:
        if os.path.exists(file) and os.path.getmtime(file) > time.time():
            os.utime(file)
    return ancient(files)


def to_do():
    return [done_file(run) for run in grid.to_make(list(planned().values()), config.get("hours"))]


localrules: book, reproduce, runs


rule book:
    shell: "{PYTHON} tools/build_book.py 2>&1"


# The pages are made when all records are there: which pages have changed is seen by their contents.
rule reproduce:
    input: lambda wildcards: to_do()
    shell: "{PYTHON} tools/build_book.py 2>&1"


rule runs:
    input: lambda wildcards: to_do()


rule chapter:
    output: "build/notebooks/{name}.ipynb", "build/notebooks/{name}.json"
    params: profile=config.get("profile", "smoke")
    retries: 0  # what fails on synthetic faces fails again
    threads: 1
    resources: mem_mb=3000, runtime=30
    shell: "{PYTHON} tools/build_book.py --chapter {wildcards.name} --profile {params.profile} 2>&1"


rule data:
    output: "build/grid/data/{dataset}-{key}.json"
    retries: int(config.get("checks", 3))  # of use where the node was lost, not where a file is wrong
    threads: 1
    resources: mem_mb=4000, runtime=30
    shell: "{PYTHON} tools/check_data.py {wildcards.dataset} {output} 2>&1"


# Once before all runs that start from the same arrays. Two at once, of two grids, wait for each other.
rule prepare:
    input: lambda wildcards: there_in_any_order([checked(planned_preparation(wildcards).dataset)])
    output: "build/grid/prepared/{name}.json"
    params:
        preparation=lambda wildcards: json.dumps(asdict(planned_preparation(wildcards))),
    # More by --set-threads: those of this machine before the first training (tools/reproduce.py),
    # four on a cluster (its profile). Beside trainings, which take every core that comes free, two
    # would never be.
    threads: 1
    resources:
        mem_mb=3000,
        runtime=lambda wildcards, attempt: attempt
        * max(60, int(3 * (planned_preparation(wildcards).seconds or 0) / 60)),
    shell: "{PYTHON} tools/prepare.py {params.preparation:q} {output:q} --threads {threads} 2>&1"


rule train:
    input: before_a_run
    output:
        BUILD + "/{paper}/{name}/notebook.ipynb",
        BUILD + "/{paper}/{name}/done.json",
    params:
        run=lambda wildcards: json.dumps(asdict(planned_run(wildcards))),
        # BUILD; on its way to a bucket, another folder.
        build=lambda wildcards, output: Path(output[0]).parents[2],
    threads: lambda wildcards: grid.resources(planned_run(wildcards))["threads"]
    resources:
        mem_mb=lambda wildcards: grid.resources(planned_run(wildcards))["mem_mb"],
        # Minutes: three times what is expected, at least an hour, longer at every attempt. A run
        # that is cut off goes on from its last epoch.
        runtime=lambda wildcards, attempt: attempt
        * max(60, int(3 * (planned_run(wildcards).seconds or 0) / 60)),
        **GPU,
    shell:
        "{PYTHON} tools/train.py {params.run:q} --threads {threads} --build {params.build:q}"
        " --results {RESULTS:q} {RUNS} 2>&1"
