// Measures the published Go libraries and a VM of Go maps, for `compare/run`.
//
// Prints one JSON object a line: {"name":…,"ns":…}, CPU time of the whole process (getrusage, so
// that the garbage collector counts) per operation, minimum of the windows of this process.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"syscall"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/luxfi/crypto/blake2b"
	"github.com/luxfi/crypto/mldsa"
	"github.com/luxfi/crypto/mlkem"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	windows  = 4
	windowNs = 80_000_000
)

// cpu is user and system time of this process, in nanoseconds.
func cpu() int64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func must(ok bool) {
	if !ok {
		check(fmt.Errorf("an operation gave a wrong answer"))
	}
}

func report(name string, ns float64) {
	fmt.Printf("{\"name\":%q,\"ns\":%.1f}\n", name, ns)
}

// measure runs work in windows of CPU time and reports the best of them.
func measure(name string, work func()) {
	for range 20 {
		work()
	}
	best := 0.0
	for range windows {
		began, n, spent := cpu(), 0, int64(0)
		for spent < windowNs {
			for range 20 {
				work()
			}
			n += 20
			spent = cpu() - began
		}
		if per := float64(spent) / float64(n); best == 0 || per < best {
			best = per
		}
	}
	report(name, best)
}

type identity struct {
	id       string
	kemPub   []byte
	kemSec   []byte
	dsaPub   []byte
	dsaSec   []byte
	dsaKey   *mldsa.PrivateKey
	verifier *mldsa.PublicKey
}

func generate() *identity {
	kemPub, kemSec, err := mlkem.GenerateKey(mlkem.MLKEM768)
	check(err)
	dsa, err := mldsa.GenerateKey(rand.Reader, mldsa.MLDSA65)
	check(err)
	i := &identity{
		kemPub: kemPub.Bytes(), kemSec: kemSec.Bytes(),
		dsaPub: dsa.PublicKey.Bytes(), dsaSec: dsa.Bytes(),
		dsaKey: dsa, verifier: dsa.PublicKey,
	}
	hash, err := blake2b.New256(nil)
	check(err)
	hash.Write(i.kemPub)
	hash.Write(i.dsaPub)
	i.id = "07" + hex.EncodeToString(hash.Sum(nil))
	return i
}

// As the published package does: keys are bytes, parsed for each operation.
func encapsulate(kemPub []byte) (ciphertext, secret []byte) {
	key, err := mlkem.PublicKeyFromBytes(kemPub, mlkem.MLKEM768)
	check(err)
	ciphertext, secret, err = key.Encapsulate()
	check(err)
	return ciphertext, secret
}

func decapsulate(kemSec, ciphertext []byte) []byte {
	key, err := mlkem.PrivateKeyFromBytes(kemSec, mlkem.MLKEM768)
	check(err)
	secret, err := key.Decapsulate(ciphertext)
	check(err)
	return secret
}

func seal(kemPub, plaintext []byte) []byte {
	ciphertext, secret := encapsulate(kemPub)
	aead, err := chacha20poly1305.NewX(secret)
	check(err)
	nonce := make([]byte, aead.NonceSize())
	_, err = rand.Read(nonce)
	check(err)
	return append(ciphertext, aead.Seal(nonce, nonce, plaintext, nil)...)
}

func open(kemSec, envelope []byte) []byte {
	ciphertext, rest := envelope[:mlkem.MLKEM768CiphertextSize], envelope[mlkem.MLKEM768CiphertextSize:]
	aead, err := chacha20poly1305.NewX(decapsulate(kemSec, ciphertext))
	check(err)
	plaintext, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], nil)
	check(err)
	return plaintext
}

func sign(key *mldsa.PrivateKey, message []byte) []byte {
	signature, err := key.Sign(rand.Reader, message, nil)
	check(err)
	return signature
}

func verifyBytes(dsaPub, message, signature []byte) bool {
	key, err := mldsa.PublicKeyFromBytes(dsaPub, mldsa.MLDSA65)
	check(err)
	return key.VerifySignature(message, signature)
}

func crypto() {
	i := generate()
	message := make([]byte, 64)
	signature := sign(i.dsaKey, message)
	plaintext := make([]byte, 1024)

	measure("identity", func() { generate() })
	measure("encapsulate+decapsulate", func() {
		ciphertext, secret := encapsulate(i.kemPub)
		must(string(decapsulate(i.kemSec, ciphertext)) == string(secret))
	})
	measure("sign+verify, from bytes", func() {
		key, err := mldsa.PrivateKeyFromBytes(mldsa.MLDSA65, i.dsaSec)
		check(err)
		must(verifyBytes(i.dsaPub, message, sign(key, message)))
	})
	measure("sign+verify, kept keys", func() {
		must(i.verifier.VerifySignature(message, sign(i.dsaKey, message)))
	})
	measure("verify, from bytes", func() { must(verifyBytes(i.dsaPub, message, signature)) })
	measure("verify, kept key", func() { must(i.verifier.VerifySignature(message, signature)) })
	measure("encrypt+decrypt 1 KiB", func() {
		must(len(open(i.kemSec, seal(i.kemPub, plaintext))) == len(plaintext))
	})

	// What the library under it could do for a caller that keeps parsed keys.
	var secret mldsa65.PrivateKey
	var public mldsa65.PublicKey
	check(secret.UnmarshalBinary(i.dsaSec))
	check(public.UnmarshalBinary(i.dsaPub))
	out := make([]byte, mldsa65.SignatureSize)
	measure("sign+verify, circl parsed", func() {
		check(mldsa65.SignTo(&secret, message, nil, true, out))
		must(mldsa65.Verify(&public, message, nil, out))
	})
	measure("verify, circl parsed", func() { must(mldsa65.Verify(&public, message, nil, signature)) })
}

func main() {
	if len(os.Args) != 2 {
		check(fmt.Errorf("usage: compare crypto|vm"))
	}
	switch os.Args[1] {
	case "crypto":
		crypto()
	case "vm":
		vm()
	default:
		check(fmt.Errorf("unknown part %q", os.Args[1]))
	}
}
