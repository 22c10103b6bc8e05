package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// A model of the published VM's state: maps, a slice and one lock. Like it, it checks no
// signature, keeps no proof and writes nothing to disk.

type id [32]byte

type session struct {
	id           id
	participants []id
	publicKeys   [][]byte
	created      time.Time
	expires      time.Time
	closed       bool
	metadata     map[string]string
}

type message struct {
	id         id
	session    id
	sender     id
	ciphertext []byte
	signature  []byte
	time       time.Time
	sequence   uint64
}

type maps struct {
	mu       sync.RWMutex
	sessions map[id]*session
	messages map[id]*message
	pending  []*message
}

func (m *maps) create(participants []id, keys [][]byte) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	hash := sha256.New()
	hash.Write([]byte("07"))
	for _, p := range participants {
		hash.Write(p[:])
	}
	now := time.Now()
	hash.Write([]byte(now.String()))
	s := &session{
		participants: participants, publicKeys: keys, created: now,
		expires: now.Add(24 * time.Hour), metadata: make(map[string]string),
	}
	copy(s.id[:], hash.Sum(nil))
	m.sessions[s.id] = s
	return s
}

func (m *maps) send(to, sender id, ciphertext, signature []byte) (*message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[to]
	if !ok {
		return nil, errors.New("unknown session")
	}
	now := time.Now()
	if s.closed || now.After(s.expires) {
		return nil, errors.New("session closed")
	}
	member := false
	for _, p := range s.participants {
		member = member || p == sender
	}
	if !member {
		return nil, errors.New("unauthorized")
	}
	hash := sha256.New()
	hash.Write(to[:])
	hash.Write(ciphertext)
	var nanos [8]byte
	binary.BigEndian.PutUint64(nanos[:], uint64(now.UnixNano()))
	hash.Write(nanos[:])
	out := &message{
		session: to, sender: sender, ciphertext: ciphertext, signature: signature,
		time: now, sequence: uint64(len(m.pending)),
	}
	copy(out.id[:], hash.Sum(nil))
	m.messages[out.id] = out
	m.pending = append(m.pending, out)
	return out, nil
}

// The numbers of the Rust side.
const (
	sessionCount = 1_000
	createCount  = 20_000
	messageCount = 40_000
	bodyBytes    = 1_200
	sigBytes     = 3_309
)

func newMaps() *maps {
	return &maps{sessions: make(map[id]*session), messages: make(map[id]*message)}
}

func randomID() (out id) {
	_, err := rand.Read(out[:])
	check(err)
	return out
}

// vm reports the best of three runs over fresh maps. Bodies are made before the clock starts: a
// real node receives them.
func vm() {
	create, send := 0.0, 0.0
	key := make([]byte, 1184)
	for range 3 {
		m := newMaps()
		people := make([][]id, createCount)
		for i := range people {
			people[i] = []id{randomID(), randomID()}
		}
		began := cpu()
		for _, p := range people {
			m.create(p, [][]byte{key, key})
		}
		create = least(create, float64(cpu()-began)/createCount)

		m = newMaps()
		sessions := make([]*session, sessionCount)
		for i := range sessions {
			sessions[i] = m.create([]id{randomID(), randomID()}, [][]byte{key, key})
		}
		bodies := make([][]byte, messageCount)
		signatures := make([][]byte, messageCount)
		for i := range bodies {
			bodies[i] = make([]byte, bodyBytes)
			binary.BigEndian.PutUint64(bodies[i], uint64(i))
			signatures[i] = make([]byte, sigBytes)
		}
		began = cpu()
		for i := range bodies {
			s := sessions[i%sessionCount]
			_, err := m.send(s.id, s.participants[0], bodies[i], signatures[i])
			check(err)
		}
		send = least(send, float64(cpu()-began)/messageCount)
	}
	report("create session", create)
	report("append message", send)
}

func least(a, b float64) float64 {
	if a == 0 || b < a {
		return b
	}
	return a
}
