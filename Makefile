# The short commands. Each sets up what it needs, and costs nothing where that is done already:
#   make book    the chapters executed on the embedded synthetic faces, and the book built
#   make test    everything that has to hold: style, unit tests, chapters, book, book tests
#   make check   style and unit tests only, but for the slow ones
#   make lab     JupyterLab on the chapters
#   make setup   only .venv
#   make clean   what the others generated, .venv excepted where it is whole
#   make reproduce    the runs on real data that are not recorded yet, then the book; hours to weeks
#        DRY=1                       list them with their cost and what they would change
#        PAPER= TABLE= SEEDS= ONLY= HOURS=   fewer of them, see tools/reproduce.py
#   make test-slurm   the workflow on a SLURM cluster of one node, which it installs; Debian, as root
#   make test-slurm-network   and on one of two nodes that share a folder over a network
#   make test-kubernetes   its profile for Kubernetes against a stand-in for a cluster; Linux, as root
#   make test-kubernetes-real   and on a cluster of two nodes, built from Debian's source; as root

.DEFAULT_GOAL := book
.PHONY: book test check lab setup clean unit-tests style chapters-and-book reproduce \
  test-slurm test-slurm-network test-kubernetes test-kubernetes-real
.NOTPARALLEL:  # under -j, two targets would build the same book at once

# 3.11 before 3.12: the committed results were computed with it.
PYTHON = python3.11 python3.12 python3 python
BIN := .venv/bin

# TensorFlow's start-up messages bury what matters.
export TF_CPP_MIN_LOG_LEVEL := 3
# A kernel of the same name in the home folder would run the chapters instead of .venv's.
export JUPYTER_PREFER_ENV_PATH := 1
# Without it each Jupyter command warns that its folders will move.
export JUPYTER_PLATFORM_DIRS := 1
# Packages from the home folder or from these paths would shadow the locked ones.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME
# Without byte code TensorFlow takes four times as long to import, and every run imports it.
unexport PYTHONDONTWRITEBYTECODE

book: chapters-and-book

test: style unit-tests chapters-and-book
	@echo "Book tests"
	@$(BIN)/python -m pytest -q tests/test_book.py
	@echo "All tests passed."

check: style unit-tests
	@echo "All checks passed."

style: setup
	@echo "Style"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Run: $(BIN)/ruff format ."; exit 1; }

check: QUICK = -m "not slow"
unit-tests: setup
	@echo "Unit tests"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore=tests/test_book.py $(QUICK)

chapters-and-book: setup
	@$(BIN)/python tools/build_book.py --profile smoke

NARROWED = $(if $(PAPER),--paper "$(PAPER)") $(if $(TABLE),--table "$(TABLE)") \
  $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(ONLY),--only "$(ONLY)") $(if $(HOURS),--hours "$(HOURS)") \
  $(if $(DRY),--dry-run)

reproduce: setup
	@$(BIN)/python tools/reproduce.py $(NARROWED)

test-slurm: setup
	@$(BIN)/python workflow/test_slurm.py

test-slurm-network: setup
	@$(BIN)/python workflow/test_slurm.py --network

test-kubernetes: setup
	@$(BIN)/python workflow/test_kubernetes.py

test-kubernetes-real: setup
	@$(BIN)/python workflow/test_kubernetes.py --real

# A kernel starts in notebooks/, where a folder that is named from here is not.
lab: setup
	@if [ -d "$${FER_DATA:-data}" ]; then \
	  export FER_DATA="$$(realpath -s -- "$${FER_DATA:-data}")"; fi; \
	  exec $(BIN)/jupyter lab $$(test "$$(id -u)" != 0 || echo --allow-root) notebooks

setup:
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	    >/dev/null 2>&1; then exec "$$python" tools/set_up.py; fi; done; \
	echo "Python 3.11 or 3.12 with its venv module is needed, and none was found: install it" \
	  "(Debian, Ubuntu: apt-get install python3 python3-venv) or name one:" \
	  "make book PYTHON=/path/to/python3.11" >&2; exit 1

# What says that .venv is half made lies in build.
clean:
	@test ! -e build/set-up.unfinished || rm -rf .venv
	rm -rf build .snakemake .pytest_cache .ruff_cache .hypothesis
	find fer_utils tests tools workflow book -name __pycache__ -type d -prune -exec rm -rf {} +
