module github.com/qwen-wgpu/qwen-wgpu

go 1.26.0

require (
	github.com/cogentcore/webgpu v0.23.0
	golang.org/x/text v0.30.0
)

require (
	github.com/andybalholm/brotli v1.2.8 // indirect
	github.com/ardanlabs/jinja v1.5.0 // indirect
	github.com/ergochat/readline v0.1.3 // indirect
	github.com/evanw/esbuild v0.28.2 // indirect
)

require (
	github.com/daulet/tokenizers v1.22.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rajveermalviya/go-webgpu/wgpu v0.17.1
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/schollz/progressbar/v3 v3.18.0 // indirect
	github.com/spf13/cobra v1.10.1 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/sys v0.43.0 // indirect
	golang.org/x/term v0.36.0 // indirect
)

ignore ./web/node_modules
