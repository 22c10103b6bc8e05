module session-compare

go 1.25.5

require (
	github.com/cloudflare/circl v1.6.3
	github.com/luxfi/crypto v1.17.38
	golang.org/x/crypto v0.46.0
)

require golang.org/x/sys v0.39.0 // indirect
