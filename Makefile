# What a contributor and a first-time user need. `make help` lists it.
PYTHON ?= python3
VENV   ?= .venv
PIP     = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
JOBC    = $(VENV)/bin/jobc
APT     = $(if $(filter 0,$(shell id -u)),,sudo) env DEBIAN_FRONTEND=noninteractive apt-get

# Tests run against this checkout; in CI against the installed wheel, so that a packaging mistake fails.
INSTALL ?= $(if $(CI),wheel,checkout)

SOURCES = $(shell git ls-files '*.py' '*.json' '*.j2' '*.sh' '*.toml' '*.yaml' 2>/dev/null)

.PHONY: help demo test engines lint format generate constraints bench clean

help:  ## list these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(VENV)/.demo $(VENV)/.checkout  ## set everything up, then plan and run a 2-process training
	$(JOBC) plan examples/digits/job.yaml
	$(JOBC) run examples/digits/job.yaml
	cd examples/digits && ../../$(VENV)/bin/python evaluate.py

# The whole suite two files at a time, because much of it waits; a part of it in one process.
test: $(VENV)/.demo $(VENV)/.dev $(VENV)/.$(INSTALL)  ## set everything up, then run the whole test suite
	cd tests && JOBC_TEST_INSTALL=$(INSTALL) ../$(VENV)/bin/python -m pytest $(or $(ARGS),--numprocesses=2 --dist=loadfile)

ENGINES = shells ssh mpi slurm node/.installed deepspeed/.installed ray/.installed xla/.installed sagemaker3/.installed sagemaker2/.installed kubernetes/.installed pods
engines: $(VENV)/.dev  ## install what engine tests need (apt, npm, Python environments)
	@mkdir -p .engines
	@$(MAKE) --silent --no-print-directory --jobs=3 $(addprefix .engines/,$(ENGINES))

# $(call packages,COMMANDS,PACKAGES): apt is asked only when a command is missing, and by one at a time.
packages = if for name in $(1); do PATH="$$PATH:/usr/sbin" command -v $$name || echo missing; done | grep -qx missing; then \
	flock .engines sh -c '$(APT) update -qq && $(APT) install -y -qq --no-install-recommends $(2)' >/dev/null; fi

# Python environments of engines: packages that .venv does not have are pinned in tests/engines/requirements.
.engines/%/bin/python: | $(VENV)/.dev
	@$(VENV)/bin/python -m venv --without-pip .engines/$*
# $(call install,NAME): every package is named there, so that none is chosen anew; the few modules in use are compiled then.
install = $(VENV)/bin/python -m pip --disable-pip-version-check --python .engines/$(1)/bin/python install --quiet --no-deps --no-compile \
	-r tests/engines/requirements/$(1).txt
purelib = $$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
# $(call base,NAME): what .venv has, torch and jobc among it, is importable too.
base = echo "import site; site.addsitedir('$(call purelib,$(VENV))')" > "$(call purelib,.engines/$(1))/base.pth"

# Shells that completion is tried in.
.engines/shells:
	@echo "engines: zsh and fish"
	@$(call packages,zsh fish,zsh fish)
	@touch $@

# Servers for the target ssh, what copies files to them, networks of their own, and a checker of shell scripts.
.engines/ssh:
	@echo "engines: sshd, rsync, ip and shellcheck"
	@$(call packages,sshd rsync ip shellcheck,openssh-server openssh-client rsync iproute2 shellcheck)
	@touch $@

# mpirun, which starts processes that then ask whose they are.
.engines/mpi:
	@echo "engines: Open MPI"
	@$(call packages,mpirun,openmpi-bin)
	@touch $@

# A cluster for the target slurm; tests start its daemons, or a person with tests/tools/slurm.py.
.engines/slurm:
	@echo "engines: Slurm, with accounting"
	@$(call packages,slurmctld slurmd munged sbatch,slurm-wlm slurm-client munge)
	@$(call packages,slurmdbd mariadbd my_print_defaults,slurmdbd mariadb-server-core mariadb-client-core)
	@touch $@

# The YAML language server that editors run.
.engines/node/.installed:
	@echo "engines: yaml-language-server"
	@mkdir -p .engines/node
	@$(call packages,npm,nodejs npm)
	@npm install --silent --no-fund --no-audit --prefix .engines/node yaml-language-server@1.25.0
	@touch $@

# DeepSpeed, with the one operator compiled that it always needs on processors.
.engines/deepspeed/.installed: tests/engines/requirements/deepspeed.txt | .engines/deepspeed/bin/python
	@echo "engines: DeepSpeed and pdsh"
	@$(call packages,pdsh g++ python3-config,pdsh g++ python3-dev)
	@$(call base,deepspeed)
	@DS_BUILD_OPS=0 $(call install,deepspeed)
	@cd $(@D) && DS_ACCELERATOR=cpu TORCH_EXTENSIONS_DIR="$$PWD/extensions" PATH="$$PWD/bin:$$PATH" bin/python -c "from deepspeed.accelerator \
	import get_accelerator; get_accelerator().create_op_builder('ShareMemCommBuilder').load()" >build.log 2>&1 || { cat build.log; exit 1; }
	@touch $@

# Ray, whose nodes tests start themselves: tests/tools/ray_nodes.py.
.engines/ray/.installed: tests/engines/requirements/ray.txt | .engines/ray/bin/python
	@echo "engines: Ray"
	@$(call base,ray)
	@$(call install,ray)
	@touch $@

# XLA on processors; its torch is a build for CUDA, whose libraries are stood in for.
.engines/xla/.installed: tests/engines/requirements/xla.txt | .engines/xla/bin/python
	@echo "engines: XLA"
	@$(call packages,gcc nm,gcc binutils libc6-dev)
	@$(call base,xla)
	@$(call install,xla)
	@.engines/xla/bin/python tests/tools/stand_in_libraries.py
	@touch $@

# SageMaker's Python SDK in its two versions, with packages that .venv has in others.
.engines/sagemaker3/.installed: tests/engines/requirements/sagemaker3.txt | .engines/sagemaker3/bin/python
	@echo "engines: SageMaker's SDK, version 3"
	@$(call install,sagemaker3)
	@touch $@

.engines/sagemaker2/.installed: tests/engines/requirements/sagemaker2.txt | .engines/sagemaker2/bin/python
	@echo "engines: SageMaker's SDK, version 2"
	@$(call install,sagemaker2)
	@touch $@

# What manifests for Kubernetes hold, as published.
.engines/kubernetes/.installed: tests/engines/requirements/kubernetes.txt | .engines/kubernetes/bin/python
	@echo "engines: models of Kubernetes"
	@$(call base,kubernetes)
	@$(call install,kubernetes)
	@touch $@

# podman, which runs a pod without a cluster: tests/tools/pods.py; and kubectl, unless a newer one than Debian's is there.
.engines/pods:
	@echo "engines: podman and kubectl"
	@$(call packages,podman runc conmon,podman runc conmon catatonit netavark)
	@$(call packages,kubectl,kubernetes-client)
	@touch $@

lint: $(VENV)/.dev $(VENV)/.checkout  ## ruff, pyright, the import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	PYTHONPATH=.dev $(VENV)/bin/lint-imports --no-cache

format: $(VENV)/.dev  ## format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

generate: $(VENV)/.dev $(VENV)/.checkout  ## write the generated files anew
	$(VENV)/bin/python -m jobc.spec.schema schemas/job.schema.json
	$(VENV)/bin/python -m jobc.compiler.schema schemas/plan.schema.json
	$(VENV)/bin/python -m jobc.cli.reference docs/reference

bench: $(VENV)/.demo $(VENV)/.dev $(VENV)/.checkout  ## measure against accelerate, torchrun and python
	@$(PIP) $$($(VENV)/bin/python tests/tools/requirements.py bench)
	$(VENV)/bin/python benchmarks/cli.py
	$(VENV)/bin/python benchmarks/launch.py
	$(VENV)/bin/python benchmarks/runtime.py
	$(VENV)/bin/python benchmarks/checkpoint.py

constraints: $(VENV)/.demo $(VENV)/.dev  ## record the installed versions
	(sed -n '1p' constraints.txt; $(VENV)/bin/python -m pip freeze --exclude jobc | sed 's/+cpu$$//') > constraints.new
	mv constraints.new constraints.txt

clean:  ## remove what these commands made
	rm -rf $(VENV) .dev .engines build dist *.egg-info examples/*/out

# --- the environment ---------------------------------------------------------------------------------------------

$(VENV)/bin/python:
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jobc needs Python 3.11 or newer; set PYTHON=")'
	@$(PYTHON) -m venv $(VENV)

# torch first, by itself: its pinned version, before anything else can ask for another.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing torch and what jobc needs"
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) $$($(VENV)/bin/python tests/tools/requirements.py . torch examples)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.demo
	@echo "installing test tools"
	@$(PIP) $$($(VENV)/bin/python tests/tools/requirements.py dev)
	@touch $@

# The checkout as the package `jobc`: a link for Python, pyright and import checks alike, and the command.
$(VENV)/.checkout: | $(VENV)/.demo
	@$(VENV)/bin/python -m pip uninstall -qq --yes jobc
	@mkdir -p .dev && ln -sfn .. .dev/jobc
	@echo "$(CURDIR)/.dev" > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/jobc-checkout.pth"
	@printf '#!%s\nimport sys\nfrom jobc.cli import main\nsys.exit(main())\n' "$(CURDIR)/$(VENV)/bin/python" > $(JOBC)
	@chmod +x $(JOBC)
	@rm -f $(VENV)/.wheel && touch $@

$(VENV)/.wheel: $(SOURCES) | $(VENV)/.dev
	@echo "building and installing the wheel"
	@rm -rf dist build *.egg-info
	@$(VENV)/bin/python -m build --quiet --wheel --outdir dist .
	@rm -f $(JOBC) "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/jobc-checkout.pth"
	@$(VENV)/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	@rm -f $(VENV)/.checkout && touch $@
