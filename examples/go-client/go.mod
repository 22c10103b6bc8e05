module github.com/luxfi/session/examples/go-client

go 1.24
