# The two commands are `make up` and `make test`; the others are their parts.
.PHONY: up test binaries release images lint loadtest

up: ## sets up what is missing, builds, starts everything
	@exec .ci/up

test: ## sets up what the tests need, runs all of them
	@exec .ci/test

binaries: ## the programs as the tests use them, the static worker among them
	@.ci/build debug

release: ## the programs as `make up` runs them
	@.ci/build release

images: ## the agent image and those of the tests, without a registry
	@worker/image/build
	@worker/image/fixtures

lint: ## format, clippy, shell scripts, licenses
	@.ci/lint

loadtest: ## k6 against the deployment at $URL with $TOKEN, else against some of its own; writes a report
	@exec .ci/loadtest
