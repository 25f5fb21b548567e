# dura: everything needs Python 3.11 or 3.12, make and a C compiler at most; nothing else is installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dura-setup

.PHONY: help setup lock demo test test-long test-full matrix soak bench lint model fuzz docs proto wheel clean
help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

LOCK := deploy/requirements.txt
# torch comes first and by its version alone, since its builds differ from machine to machine; what a build with CUDA brings
# along belongs to that build.
UNLOCKED := torch triton setuptools cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
  nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

setup: $(STAMP)  ## Install everything into .venv, in the very versions that were tested.
$(STAMP): pyproject.toml $(LOCK)
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "dura needs Python 3.11 or 3.12; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

lock: setup  ## Choose the newest versions that fit and write them to deploy/requirements.txt, to be tested.
	$(BIN)/uv pip compile pyproject.toml --quiet --extra dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-annotate --no-header --index-strategy unsafe-best-match \
	  $(addprefix --no-emit-package ,$(UNLOCKED)) -o $(LOCK)

demo: setup  ## Run the first federated study on simulated hospitals (about two minutes on two cores).
	$(BIN)/dura demo

test: setup  ## Run the default tests.
	$(BIN)/python -m pytest -m "not full and not long and not gpu and not matrix" -n 2 --dist loadfile

test-long: setup  ## Run the tests that are left out for their length alone; CI does.
	$(BIN)/python -m pytest -m "long and not full and not gpu and not matrix" -n 2 --dist loadfile

test-full: setup  ## Run all tests, the long ones too.
	$(BIN)/python -m pytest -m "not matrix"

matrix: setup  ## Strike every process and host at every stage of a study (hours).
	$(BIN)/python -m pytest -m "matrix or long" tests/federation/hosts/test_matrix.py

soak: setup  ## Run 50 short studies in a row (STUDIES), then 20 quiet minutes (MINUTES); nothing may fail or grow.
	$(BIN)/python -m tests.federation.hosts.soak --studies $(or $(STUDIES),50) --minutes $(or $(MINUTES),20)

model: setup  ## Check the model of draws and attempts exhaustively (needs spin; minutes).
	$(BIN)/python -m tests.model.check

fuzz: setup  ## Fuzz every parser of outside bytes for SECONDS each, or by RUNS fixed inputs; the corpus grows under build/fuzz.
	$(BIN)/python -m tests.fuzz $(if $(RUNS),--runs $(RUNS),--seconds $(or $(SECONDS),60))

bench: setup  ## Measure everything that is promised; JSON lines, minutes long.
	$(BIN)/python -m tests.bench

lint: setup  ## Check style, types, imports and dependencies.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip check

docs: setup  ## Build the documentation, warnings are errors.
	$(BIN)/python docs/tools/reference.py docs/reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict -f .mkdocs.yml -d build/site

proto: setup  ## Regenerate the wire types (after editing a .proto file).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[proto]'
	$(BIN)/python -m grpc_tools.protoc -I common --python_out=common --pyi_out=common --grpc_python_out=common \
	  common/dura_common/messages/proto/aggregation.proto common/dura_common/messages/proto/desk.proto

wheel: setup  ## Build the wheel and check that it installs and starts.
	rm -rf build/dist build/wheel-check
	$(BIN)/python -m pip wheel --quiet --no-deps -w build/dist .
	$(PYTHON) -m venv build/wheel-check
	build/wheel-check/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/wheel-check/dura build/dist/*.whl
	cd build && PYTHONPATH=wheel-check/dura ../$(BIN)/python -c "import dura_common, dura_server.report, pathlib; assert 'wheel-check' in dura_common.__file__; assert (pathlib.Path(dura_server.report.__file__).parent / 'report.html').exists()"

clean:  ## Remove what was built; the demo's data too.
	rm -rf build site demo-run .mypy_cache .ruff_cache .pytest_cache
