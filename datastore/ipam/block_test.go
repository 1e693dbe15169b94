package ipam

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
)

// ledger is a simple model of a block: the holder of each ordinal, and the queue of free ordinals.
type ledger struct {
	Holder [8]string // empty: nobody; "cooling": somebody had it
	Queue  []int
	Number uint64
	At     map[int]uint64 // the number at which an ordinal changed hands

	released map[int]time.Time
}

func (l *ledger) assign(at int, handle string) {
	l.Holder[at] = handle
	l.At[at] = l.Number
	l.Queue = slices.DeleteFunc(l.Queue, func(free int) bool { return free == at })
	delete(l.released, at)
}

func (l *ledger) release(at int, now time.Time) {
	l.Holder[at], l.At[at], l.released[at] = "cooling", l.Number, now.Truncate(time.Second)
}

func (l *ledger) finish(cooldown time.Duration, now time.Time) {
	for _, at := range slices.Sorted(maps.Keys(l.released)) {
		if now.Sub(l.released[at]) >= cooldown {
			l.Holder[at] = ""
			l.Queue = append(l.Queue, at)
			delete(l.At, at)
			delete(l.released, at)
		}
	}
	l.Number++
}

// ledgerOf reads a block as ledger, and fails where the block contradicts itself.
func ledgerOf(t *testing.T, b *api.IPAMBlock, now time.Time) *ledger {
	t.Helper()
	if faults := faultsOf(&heldBlock{IPAMBlock: b, cidr: netip.MustParsePrefix(b.CIDR)}, now); len(faults) > 0 {
		t.Fatalf("faults %q of %+v", faults, b)
	}
	l := &ledger{Queue: b.Unallocated, Number: b.SequenceNumber, At: map[int]uint64{}}
	for at := range b.Allocations {
		switch handle, allocated, cooling := handleOf(b, at); {
		case cooling:
			l.Holder[at] = "cooling"
		case allocated:
			l.Holder[at] = handle
		}
	}
	for text, number := range b.SequenceNumberForAllocation {
		at, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		l.At[at] = number
	}
	return l
}

// TestABlockAgreesWithItsLedger changes a block at random, through its stored form, and compares it with the ledger each time.
func TestABlockAgreesWithItsLedger(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		now := time.Unix(1_800_000_000, 0)
		b := newBlock(netip.MustParsePrefix("10.0.0.0/29"), "n", now)
		want := &ledger{Queue: []int{0, 1, 2, 3, 4, 5, 6, 7}, Number: b.SequenceNumber, At: map[int]uint64{}, released: map[int]time.Time{}}
		for range 60 {
			now = now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
			cooldown := time.Duration(random.IntN(3)) * 2 * time.Second
			for range 1 + random.IntN(3) { // a change may be of several addresses
				at := random.IntN(8)
				switch holder := want.Holder[at]; holder {
				case "", "cooling":
					handle := fmt.Sprintf("h%d", random.IntN(4))
					assign(b, at, handle, map[string]string{"to": handle})
					want.assign(at, handle)
				default:
					release(b, at, now)
					want.release(at, now)
				}
			}
			finish(b, cooldown, now)
			want.finish(cooldown, now)
			b = throughTheStore(t, b)
			got := ledgerOf(t, b, now)
			got.released = want.released
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(ledger{})); diff != "" {
				t.Fatalf("after cooldown %v: (- ledger, + block)\n%s", cooldown, diff)
			}
			checkSharing(t, b)
		}
	}
}

// checkSharing demands that equal attributes are shared.
func checkSharing(t *testing.T, b *api.IPAMBlock) {
	t.Helper()
	seen := map[string]bool{}
	for _, attribute := range b.Attributes {
		text, err := json.Marshal(attribute)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(text)] {
			t.Fatalf("attribute %s twice in %+v", text, b)
		}
		seen[string(text)] = true
	}
}

func throughTheStore(t *testing.T, b *api.IPAMBlock) *api.IPAMBlock {
	t.Helper()
	text, err := api.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	return decodeBlock(t, string(text))
}

func decodeBlock(t *testing.T, text string) *api.IPAMBlock {
	t.Helper()
	o, err := api.DecodeStored("IPAMBlock", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o.(*api.IPAMBlock)
}

func TestUnknownFieldsStayWithTheirAttribute(t *testing.T) {
	t.Parallel()
	b := decodeBlock(t, `{"cidr":"10.0.0.0/30","affinity":"host:n","allocations":[0,1,2,null],"unallocated":[3],"attributes":[`+
		`{"handle_id":"a","newer":"a"},{"handle_id":"b","newer":"b"},{"handle_id":"c","newer":{"of":"c"}}],`+
		`"sequenceNumber":7,"sequenceNumberForAllocation":{"0":1,"1":2,"2":3},"deleted":false,"beside":1}`)
	now := time.Unix(1_800_000_000, 0)
	release(b, 1, now)
	assign(b, 3, "d", nil)
	finish(b, 0, now)
	want := `{"cidr":"10.0.0.0/30","affinity":"host:n","allocations":[0,null,1,2],"unallocated":[1],"attributes":[` +
		`{"handle_id":"a","newer":"a"},{"handle_id":"c","newer":{"of":"c"}},{"handle_id":"d"}],` +
		`"sequenceNumber":8,"sequenceNumberForAllocation":{"0":1,"2":3,"3":7},"deleted":false,"beside":1}`
	got, err := api.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asMap(t, []byte(want)), asMap(t, got)); diff != "" {
		t.Error(diff)
	}
}

func asMap(t *testing.T, text []byte) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Changing a block of an old or faulty writer does no harm: no address is allocated that is not free, and no address changes its
// holder.
func TestADamagedBlockIsNotDamagedFurther(t *testing.T) {
	t.Parallel()
	b := decodeBlock(t, `{"cidr":"10.0.0.0/30","affinity":"host:n","allocations":[0,1,-1,null],"unallocated":[3,0],"attributes":[{"handle_id":"a"}],"sequenceNumber":7}`)
	now := time.Unix(1_800_000_000, 0)
	assign(b, 3, "b", nil)
	finish(b, time.Hour, now)
	holders := func() (all []string) {
		for at := range b.Allocations {
			handle, allocated, cooling := handleOf(b, at)
			all = append(all, fmt.Sprint(handle, " ", allocated, " ", cooling))
		}
		return all
	}
	if diff := cmp.Diff([]string{"a true false", " true false", " true false", "b true false"}, holders()); diff != "" {
		t.Error(diff)
	}
	release(b, 0, now)
	finish(b, 0, now)
	if diff := cmp.Diff([]string{" false false", " true false", " true false", "b true false"}, holders()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0}, b.Unallocated); diff != "" {
		t.Errorf("free: %s", diff)
	}
	if diff := cmp.Diff(map[string]uint64{"3": 7}, b.SequenceNumberForAllocation); diff != "" {
		t.Errorf("numbers: %s", diff)
	}
}
