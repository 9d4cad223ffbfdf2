package transport_test

import (
	"testing"

	"spillway/scripts/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
