//go:build linux

package distance_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"spillway/scripts/internal/distance"
)

const (
	segment = 1448
	headers = 20 + 32 // IP, and TCP with timestamps
	wire    = headers + segment
)

// bundle returns a packet of TCP with that much payload, as a TUN device hands it over.
func bundle(payload int) distance.Packet {
	p := make(distance.Packet, distance.HeaderLen+headers+payload)
	p[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	if payload > segment {
		p[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
		binary.NativeEndian.PutUint16(p[4:], segment)
	}
	binary.NativeEndian.PutUint16(p[2:], headers)
	ip := p[distance.HeaderLen:]
	ip[0] = 4<<4 | 5
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], 0xffff) // the next identification is 0
	ip[8], ip[9] = 64, 6
	copy(ip[12:], []byte{198, 18, 0, 1})
	copy(ip[16:], []byte{198, 18, 255, 1})
	tcp := ip[20:]
	binary.BigEndian.PutUint32(tcp[4:], 0xffffffff)
	tcp[12] = 8 << 4
	tcp[13] = 0x80 | 0x10 | 0x08 | 0x01 // CWR, ACK, PSH, FIN
	for i := range payload {
		tcp[32+i] = byte(i * 7 >> 3)
	}
	return p
}

func TestSlice(t *testing.T) {
	const payload = 4*segment + 100
	whole := bundle(payload)
	if whole.Segments() != 5 || whole.Size() != payload+5*headers {
		t.Fatalf("%d segments, %d bytes", whole.Segments(), whole.Size())
	}
	for from := range 5 {
		for to := from + 1; to <= 5; to++ {
			s := whole.Slice(from, to)
			if s.Segments() != to-from {
				t.Errorf("[%d:%d]: %d segments", from, to, s.Segments())
			}
			if want := whole.Body()[from*segment : min(to*segment, payload)]; !bytes.Equal(s.Body(), want) {
				t.Errorf("[%d:%d]: another payload", from, to)
			}
			ip := s[distance.HeaderLen:]
			tcp := ip[20:]
			if int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
				t.Errorf("[%d:%d]: wrong length", from, to)
			}
			if seq := binary.BigEndian.Uint32(tcp[4:]); seq != uint32(from*segment)-1 {
				t.Errorf("[%d:%d]: sequence number %d", from, to, seq)
			}
			first, last := tcp[13]&0x80 != 0, tcp[13]&0x09 == 0x09
			if first != (from == 0) || last != (to == 5) || !last && tcp[13]&0x09 != 0 {
				t.Errorf("[%d:%d]: flags %#x", from, to, tcp[13])
			}
			if from == 0 && to == 5 {
				continue // untouched
			}
			if id := binary.BigEndian.Uint16(ip[4:]); id != uint16(from)-1 {
				t.Errorf("[%d:%d]: identification %d", from, to, id)
			}
			if sum := distance.Checksum(0, ip[:20]); sum != 0xffff {
				t.Errorf("[%d:%d]: checksum of the header: %#x", from, to, sum)
			}
			if sum := distance.Checksum(6+uint32(len(tcp)), ip[12:20]); sum != binary.BigEndian.Uint16(tcp[16:]) {
				t.Errorf("[%d:%d]: checksum of the pseudo header: %#x", from, to, sum)
			}
		}
	}
}

// part is what admit lets through: how many segments, and after which time.
type part struct {
	after    time.Duration
	segments int
}

func admit(w *distance.Way, start, now time.Time, p distance.Packet) (parts []part) {
	w.Admit(now, p, func(due time.Time, p distance.Packet) {
		parts = append(parts, part{due.Sub(start), p.Segments()})
	})
	return parts
}

func TestWay(t *testing.T) {
	start := time.Unix(0, 0)
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		link distance.Link
		want []part
	}{
		"nothing":       {distance.Link{}, []part{{0, 4}}},
		"delay":         {distance.Link{Delay: 10 * ms}, []part{{10 * ms, 4}}},
		"all lost":      {distance.Link{Loss: 1}, nil},
		"one each 2 ms": {distance.Link{Rate: 500 * wire}, []part{{2 * ms, 1}, {4 * ms, 1}, {6 * ms, 1}, {8 * ms, 1}}},
		"two each 1 ms": {distance.Link{Rate: 2000 * wire}, []part{{1 * ms, 2}, {2 * ms, 2}}},
		"rate, delay":   {distance.Link{Rate: 2000 * wire, Delay: 5 * ms}, []part{{6 * ms, 2}, {7 * ms, 2}}},
	} {
		w := distance.NewWay(1)
		w.Set(test.link)
		if got := admit(w, start, start, bundle(4*segment)); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
		passed := 0
		for _, p := range test.want {
			passed += p.segments
		}
		if got, want := w.Traffic(), (distance.Traffic{Bytes: int64(passed * wire), Lost: int64(4 - passed)}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// TestWayQueue: what finds the queue before a slow link full is lost, and there is room again when
// the link has sent something.
func TestWayQueue(t *testing.T) {
	start := time.Unix(0, 0)
	const rate = 100 * wire // 10 ms for each segment
	w := distance.NewWay(1)
	w.Set(distance.Link{Rate: rate})
	sent, arrived := 0, 0
	for range 10 {
		sent += 40
		arrived += len(admit(w, start, start, bundle(40*segment)))
	}
	if most := distance.QueueLeast/wire + 1; arrived < most || arrived > most+1 {
		t.Errorf("%d of %d segments had room, want %d", arrived, sent, most)
	}
	if lost := w.Traffic().Lost; lost != int64(sent-arrived) {
		t.Errorf("%d lost, want %d", lost, sent-arrived)
	}
	later := start.Add(100 * time.Millisecond)
	if got := admit(w, start, later, bundle(40*segment)); len(got) != 10 || got[0].after != time.Duration(arrived+1)*10*time.Millisecond {
		t.Errorf("after 100 ms: %v", got)
	}
}

// TestWayLoss: the seed says what is lost, and it is the share that was asked for.
func TestWayLoss(t *testing.T) {
	start := time.Unix(0, 0)
	run := func(seed uint64) (all []part) {
		w := distance.NewWay(seed)
		w.Set(distance.Link{Loss: 0.02})
		for range 1000 {
			all = append(all, admit(w, start, start, bundle(40*segment))...)
		}
		if lost := w.Traffic().Lost; lost < 700 || lost > 900 {
			t.Errorf("seed %d: %d of 40000 segments lost", seed, lost)
		}
		return all
	}
	if !slices.Equal(run(1), run(1)) {
		t.Error("one seed gave different losses")
	}
	if slices.Equal(run(1), run(2)) {
		t.Error("different seeds gave the same losses")
	}
}

// TestWayChange: nothing overtakes what was sent before the link became shorter.
func TestWayChange(t *testing.T) {
	start := time.Unix(0, 0)
	const ms = time.Millisecond
	w := distance.NewWay(1)
	w.Set(distance.Link{Delay: 50 * ms})
	got := admit(w, start, start, bundle(segment))
	w.Set(distance.Link{Delay: 10 * ms})
	got = append(got, admit(w, start, start.Add(20*ms), bundle(segment))...)
	got = append(got, admit(w, start, start.Add(60*ms), bundle(segment))...)
	if want := []part{{50 * ms, 1}, {50 * ms, 1}, {70 * ms, 1}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		type delivery struct {
			after int // ms
			what  byte
		}
		var got []delivery
		l := distance.NewLine(func(p distance.Packet) {
			got = append(got, delivery{int(time.Since(start) / time.Millisecond), p[0]})
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Run()
		}()
		push := func(after int, what byte) {
			l.Push(start.Add(time.Duration(after)*time.Millisecond), distance.Packet{what})
		}
		push(30, 'd')
		push(10, 'a')
		push(20, 'b')
		push(20, 'c')
		time.Sleep(15 * time.Millisecond)
		push(5, 'x') // late already
		time.Sleep(100 * time.Millisecond)
		push(200, 'e')
		synctest.Wait()
		push(150, 'f')
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		want := []delivery{{10, 'a'}, {15, 'x'}, {20, 'b'}, {20, 'c'}, {30, 'd'}, {150, 'f'}, {200, 'e'}}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}

		// What is on its way is bounded, and there is room again when it has arrived.
		got = nil
		large := make(distance.Packet, distance.LineBytes/2)
		for range 3 {
			l.Push(start.Add(time.Second), large)
		}
		time.Sleep(2 * time.Second)
		l.Push(start.Add(time.Second), large)
		synctest.Wait()
		if len(got) != 3 {
			t.Errorf("%d large packets arrived, want 3 of 4", len(got))
		}
		push(100_000, 'z')
		l.Close()
		<-done
	})
}
