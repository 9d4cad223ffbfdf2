//go:build linux

package distance

import (
	"math/rand/v2"
	"time"
)

type (
	Packet = packet
	Way    = way
	Line   = line
)

const (
	HeaderLen  = headerLen
	LineBytes  = lineBytes
	QueueLeast = queueLeast
)

func NewWay(seed uint64) *Way { return &way{random: rand.New(rand.NewPCG(seed, 0))} }

func (w *way) Set(l Link)       { w.set(l) }
func (w *way) Traffic() Traffic { return w.traffic() }

func (w *way) Admit(now time.Time, p Packet, push func(time.Time, Packet)) { w.admit(now, p, push) }

func NewLine(deliver func(Packet)) *Line { return newLine(deliver) }

func (l *line) Push(due time.Time, p Packet) { l.push(time.Now(), due, p) }
func (l *line) Run()                         { l.run() }
func (l *line) Close()                       { l.close() }

func (p packet) Segments() int               { return p.segments() }
func (p packet) Size() int                   { return p.size() }
func (p packet) Slice(from, to int) Packet   { return p.slice(from, to) }
func (p packet) Body() []byte                { return p[p.payload():] }
func Checksum(start uint32, b []byte) uint16 { return fold(sum(start, b)) }
