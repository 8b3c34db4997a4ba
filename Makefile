# qwen-wgpu: `make help` explains every target.

GO ?= go
PY ?= python3
export CGO_ENABLED ?= 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: build
build: bin/qwen-wgpu bin/convert ## build bin/qwen-wgpu and bin/convert

GO_SOURCES := $(shell find cmd engine kvcache shaders tools models internal -name '*.go' -o -name '*.wgsl' -o -name '*.c' -o -name '*.h' 2>/dev/null) go.mod go.sum

bin/qwen-wgpu: $(GO_SOURCES)
	$(GO) build -o $@ ./cmd/qwen-wgpu

bin/convert: $(GO_SOURCES)
	$(GO) build -o $@ ./tools/convert

.PHONY: chat
chat: bin/qwen-wgpu ## build, and talk with the model inside the program; FLAGS for qwen-wgpu chat
	bin/qwen-wgpu chat $(FLAGS)

.PHONY: deps
deps: ## install what tests need and Debian has (mesa-vulkan-drivers, ...), or name it
	scripts/install-deps.sh

.PHONY: test
test: deps lint ## install what is missing, then run all tests, those in the browser too
	$(GO) test -timeout 30m ./...
	$(MAKE) test-web

.PHONY: eval
eval: bin/qwen-wgpu ## ask the model in the box the questions of testdata/tiny-eval; FLAGS such as --device gpu, --model DIR
	bin/qwen-wgpu eval --questions testdata/tiny-eval/questions.jsonl $(FLAGS)

# npm ci leaves a mark, so that a changed lock file installs anew.
web/node_modules/.package-lock.json: web/package-lock.json web/package.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

.PHONY: web
web: web/node_modules/.package-lock.json ## the chat page, built, served and rebuilt as sources change; FLAGS for devserver
	$(GO) run ./cmd/devserver $(FLAGS)

.PHONY: dist
dist: web/node_modules/.package-lock.json ## web/dist: the page as a static site, and engine.js with its types
	$(GO) run ./cmd/devserver dist $(FLAGS)

.PHONY: test-web
test-web: deps web/node_modules/.package-lock.json web/node/node_modules/.package-lock.json ## the page and the wasm engine in headless Chromium; types
	cd web && npm run --silent check
	$(GO) build -o build/devserver ./cmd/devserver
	cd web && DEVSERVER=$(CURDIR)/build/devserver npm run --silent test

# The wasm program without the model in the box, with random models instead and Go's own glue beside it, and Dawn for Node:
# what bench-wasm needs, on a machine without a network too.
bin/bench.wasm: $(GO_SOURCES)
	GOOS=js GOARCH=wasm CGO_ENABLED=0 $(GO) build -trimpath -tags bench -ldflags "-s -w" -o $@ ./cmd/wasm
	cp "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" bin/

web/node/node_modules/.package-lock.json: web/node/package-lock.json web/node/package.json
	cd web/node && npm ci --no-audit --no-fund
	@touch $@

.PHONY: bench-wasm
bench-wasm: bin/bench.wasm web/node/node_modules/.package-lock.json ## the wasm build on this machine's GPU (Dawn in Node); FLAGS="--synth 0.6b --dtype q4 ..."
	@node web/node/bench.mjs $(FLAGS)

NODE_PLATFORM = $(shell node -p 'process.platform + "-" + process.arch')
.PHONY: bench-wasm-pack
bench-wasm-pack: bin/bench.wasm web/node/node_modules/.package-lock.json ## build/bench-wasm.tar.xz: bench-wasm with Node and Dawn, for a machine without a network (unpack; ./node web/node/bench.mjs --synth 0.6b)
	rm -rf build/bench-wasm
	mkdir -p build/bench-wasm/bin build/bench-wasm/engine/gpu/browser build/bench-wasm/web/node/node_modules/webgpu/dist/$(NODE_PLATFORM)
	cp "$$(node -p process.execPath)" build/bench-wasm/node
	cp bin/bench.wasm bin/wasm_exec.js build/bench-wasm/bin/
	cp engine/gpu/browser/glue.js build/bench-wasm/engine/gpu/browser/
	cp web/node/*.mjs web/node/package.json build/bench-wasm/web/node/
	cd web/node/node_modules/webgpu && cp index.js package.json $(CURDIR)/build/bench-wasm/web/node/node_modules/webgpu/
	cp web/node/node_modules/webgpu/dist/$(NODE_PLATFORM)/* build/bench-wasm/web/node/node_modules/webgpu/dist/$(NODE_PLATFORM)/
	strip build/bench-wasm/node build/bench-wasm/web/node/node_modules/webgpu/dist/$(NODE_PLATFORM)/*.node
	tar -C build/bench-wasm -c . | xz -9 -T0 >build/bench-wasm.tar.xz
	@ls -l build/bench-wasm.tar.xz

.PHONY: test-gowebgpu
test-gowebgpu: deps ## the GPU tests on the second driver, wgpu 0.17 through go-webgpu (downloads it)
	$(GO) test -tags gowebgpu ./engine ./engine/gpu/native ./engine/forward ./shaders

.PHONY: test-hf
test-hf: ## the tokenizer against Hugging Face's Rust library (downloads and builds it; needs cargo and a C++ compiler)
	engine/tokenizer/hf/build.sh
	$(GO) test -tags hftokenizers ./engine/tokenizer/...

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## every fuzz target, FUZZTIME (30s) each
	@grep -rl --include=*_test.go '^func Fuzz' engine kvcache tools internal | while read -r file; do \
	  sed -n 's/^func \(Fuzz[A-Za-z]*\).*/\1/p' "$$file" | while read -r target; do \
	    echo "$$target ($$(dirname "$$file"))"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "./$$(dirname "$$file")" || exit 1; \
	  done || exit 1; \
	done

.PHONY: lint
lint: ## gofmt and go vet
	@unformatted=$$(gofmt -l cmd engine kvcache shaders tools models internal); \
	if [ -n "$$unformatted" ]; then echo "not gofmt'd: $$unformatted"; exit 1; fi
	$(GO) vet ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build
