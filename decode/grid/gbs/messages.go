package gbs

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"spillway/decode/zfec"
	"strings"
	"unicode"

	"github.com/fxamacker/cbor/v2"
)

const (
	cborType  = "application/cbor"
	maxAnswer = 64 << 10 // bytes; the largest, a set of 256 share numbers, has some 700
	setTag    = 258      // https://www.iana.org/assignments/cbor-tags
)

// decoding refuses what is larger or deeper than any answer.
var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels:  8,
		MaxArrayElements: 4096, // ranges that are missing of an upload
		MaxMapPairs:      64,
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		// The keys of a version are byte strings, those of other answers are text.
		FieldNameByteString: cbor.FieldNameByteStringAllowed,
		ByteStringToString:  cbor.ByteStringToStringAllowed,
	}.DecMode()
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return mode
}()

// unmarshal decodes a whole answer.
func unmarshal(b []byte, answer any) error {
	if len(b) > maxAnswer {
		return fmt.Errorf("the server's answer is longer than %d bytes", maxAnswer)
	}
	if err := decoding.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("the server's answer is malformed: %w", err)
	}
	return nil
}

func marshal(request any) []byte {
	b, err := cbor.Marshal(request)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}

// shareSet is a set of share numbers, ascending when it was decoded.
type shareSet []int

func (s shareSet) MarshalCBOR() ([]byte, error) {
	return cbor.Marshal(cbor.Tag{Number: setTag, Content: []int(s)})
}

func (s *shareSet) UnmarshalCBOR(b []byte) error {
	var tag cbor.RawTag
	if err := decoding.Unmarshal(b, &tag); err != nil {
		return err
	}
	if tag.Number != setTag {
		return fmt.Errorf("a set has the tag %d", tag.Number)
	}
	var nums []uint64
	if err := decoding.Unmarshal(tag.Content, &nums); err != nil {
		return err
	}
	if len(nums) > zfec.MaxShares {
		return fmt.Errorf("there are %d shares", len(nums))
	}
	*s = make(shareSet, 0, len(nums))
	for _, n := range nums {
		if n >= zfec.MaxShares {
			return fmt.Errorf("there is a share number %d", n)
		}
		*s = append(*s, int(n))
	}
	slices.Sort(*s)
	*s = slices.Compact(*s)
	return nil
}

// amount is a number of bytes. Servers that do not know how much they have send 2^64.
type amount int64

func (a *amount) UnmarshalCBOR(b []byte) error {
	var n big.Int
	if err := decoding.Unmarshal(b, &n); err != nil {
		return err
	}
	if n.Sign() < 0 {
		return errors.New("an amount is negative")
	}
	*a = math.MaxInt64
	if n.IsInt64() {
		*a = amount(n.Int64())
	}
	return nil
}

type versionAnswer struct {
	Storage struct {
		MaxShareSize   amount `cbor:"maximum-immutable-share-size"`
		AvailableSpace amount `cbor:"available-space"`
	} `cbor:"http://allmydata.org/tahoe/protocols/storage/v1"`
	Application string `cbor:"application-version"`
}

type allocateRequest struct {
	Shares shareSet `cbor:"share-numbers"`
	Size   int64    `cbor:"allocated-size"`
}

type allocateAnswer struct {
	AlreadyHave shareSet `cbor:"already-have"`
	Allocated   shareSet `cbor:"allocated"`
}

// writeAnswer says what is missing of a share.
type writeAnswer struct {
	Required []struct {
		Begin uint64 `cbor:"begin"`
		End   uint64 `cbor:"end"`
	} `cbor:"required"`
}

type corruptRequest struct {
	Reason string `cbor:"reason"`
}

// printable returns the first thousand bytes of a text that somebody else wrote, as one line.
func printable(s string) string {
	s = s[:min(len(s), maxReason)]
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
