// A client in Go of a chain whose genesis says "open": two people, a session, two messages, read
// back. It speaks what published Go clients speak, JSON over HTTP without "jsonrpc", and needs
// nothing but the standard library.
//
//	go run . http://127.0.0.1:9652                    a stand-alone node
//	go run . http://127.0.0.1:9650/ext/bc/CHAIN       a node of a network
//
// Unsigned messages are marked unverified: this shows the dialect, not how to be safe.
package main

import (
	"bytes"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"time"
)

const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// cb58 writes bytes as ids are written: base 58 of the bytes and the end of their SHA-256.
func cb58(id []byte) string {
	sum := sha256.Sum256(id)
	whole := append(append([]byte{}, id...), sum[28:]...)
	n, base, digit := new(big.Int).SetBytes(whole), big.NewInt(58), new(big.Int)
	var out []byte
	for n.Sign() > 0 {
		n.DivMod(n, base, digit)
		out = append(out, alphabet[digit.Int64()])
	}
	for _, b := range whole {
		if b != 0 {
			break
		}
		out = append(out, alphabet[0])
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return string(out)
}

type client struct {
	url  string
	http http.Client
}

// call sends one request and reads its result, which has 16 MiB at most.
func (c *client) call(method string, params, result any) error {
	body, err := json.Marshal(map[string]any{"method": method, "params": []any{params}, "id": 1})
	if err != nil {
		return err
	}
	response, err := c.http.Post(c.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return err
	}
	var reply struct {
		Result json.RawMessage `json:"result"`
		Error  any             `json:"error"`
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return fmt.Errorf("%s: HTTP %d: %.200s", method, response.StatusCode, text)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %v", method, reply.Error)
	}
	return json.Unmarshal(reply.Result, result)
}

type person struct {
	id  string
	key string
}

func newPerson() (person, error) {
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return person{}, err
	}
	key, err := mlkem.GenerateKey768()
	if err != nil {
		return person{}, err
	}
	return person{cb58(id), hex.EncodeToString(key.EncapsulationKey().Bytes())}, nil
}

func run(node string) error {
	c := &client{url: strings.TrimSuffix(node, "/") + "/rpc", http: http.Client{Timeout: 30 * time.Second}}
	alice, err := newPerson()
	if err != nil {
		return err
	}
	bob, err := newPerson()
	if err != nil {
		return err
	}
	var created struct {
		SessionID string `json:"sessionId"`
	}
	err = c.call("sessionvm.CreateSession", map[string]any{
		"participants": []string{alice.id, bob.id},
		"publicKeys":   []string{alice.key, bob.key},
	}, &created)
	if err != nil {
		return err
	}
	fmt.Println("session", created.SessionID)
	for i, sender := range []person{alice, bob} {
		var sent struct {
			MessageID string `json:"messageId"`
		}
		err = c.call("sessionvm.SendMessage", map[string]any{
			"sessionId":  created.SessionID,
			"sender":     sender.id,
			"ciphertext": hex.EncodeToString([]byte(fmt.Sprintf("message %d", i+1))),
			"signature":  "",
		}, &sent)
		if err != nil {
			return err
		}
		fmt.Println("sent   ", sent.MessageID)
	}
	var got struct {
		Session struct {
			Participants []string `json:"participants"`
			Status       string   `json:"status"`
		} `json:"session"`
	}
	if err := c.call("sessionvm.GetSession", map[string]any{"sessionId": created.SessionID}, &got); err != nil {
		return err
	}
	fmt.Println("status ", got.Session.Status, "with", len(got.Session.Participants), "participants")
	var read struct {
		Messages []struct {
			Sender     string `json:"sender"`
			Ciphertext string `json:"ciphertext"`
			Verified   bool   `json:"verified"`
		} `json:"messages"`
	}
	if err := c.call("sessionvm.GetMessages", map[string]any{"sessionId": created.SessionID}, &read); err != nil {
		return err
	}
	for i, message := range read.Messages {
		text, err := hex.DecodeString(message.Ciphertext)
		if err != nil {
			return err
		}
		want := fmt.Sprintf("message %d", i+1)
		if string(text) != want {
			return fmt.Errorf("read %q, expected %q", text, want)
		}
		fmt.Printf("read    %s (verified %t)\n", text, message.Verified)
	}
	if len(read.Messages) != 2 {
		return fmt.Errorf("read %d messages, expected 2", len(read.Messages))
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . http://HOST:PORT[/ext/bc/CHAIN]")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
