# duologue: two commands. `make talk` hears it, `make test` checks it; both work in .venv/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A CPU build of torch: the plain name would pull gigabytes of CUDA.
TORCH := torch==2.13.0

.PHONY: talk test quick dev lint types unit clean

quick: dev-stamp lint types unit

clean:
	rm -rf $(VENV) build dist talk.wav
