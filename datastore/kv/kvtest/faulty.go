package kvtest

import (
	"context"
	"errors"

	"github.com/margay-project/margay/datastore/kv"
)

// Fault is an event at a call of a Faulty.
type Fault int

const (
	None      Fault = iota
	Fails           // the call has no effect and returns ErrFault
	Lost            // a commit takes effect, and its answer is lost: it returns ErrFault
	Echo            // a commit takes effect, its answer is lost, and a second attempt returns Outcome.Echo
	Dies            // as Fails, and so does every later call: the program has died
	DiesAfter       // as Lost, and then as Dies
)

// ErrFault is the error of a call that a Faulty disturbs.
var ErrFault = errors.New("fault")

// Faulty is a KV that disturbs calls of one program. It is for one goroutine.
type Faulty struct {
	kv.KV
	Choose func(call int) Fault // call counts from 1
	Calls  int
	Dead   bool
}

func (f *Faulty) fault() Fault {
	if f.Dead {
		return Fails
	}
	f.Calls++
	fault := f.Choose(f.Calls)
	f.Dead = fault == Dies || fault == DiesAfter
	return fault
}

// Range implements kv.KV.
func (f *Faulty) Range(ctx context.Context, span kv.Span, revision int64, limit int) (kv.Page, error) {
	if fault := f.fault(); fault != None && fault != Echo {
		return kv.Page{}, ErrFault
	}
	return f.KV.Range(ctx, span, revision, limit)
}

// Lookup implements kv.KV.
func (f *Faulty) Lookup(ctx context.Context, keys []string) ([]*kv.Entry, int64, error) {
	if fault := f.fault(); fault != None && fault != Echo {
		return nil, 0, ErrFault
	}
	return f.KV.Lookup(ctx, keys)
}

// Commit implements kv.KV.
func (f *Faulty) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	fault := f.fault()
	if fault == Fails || fault == Dies {
		return kv.Outcome{}, ErrFault
	}
	outcome, err := f.KV.Commit(ctx, conditions, writes)
	switch {
	case fault == None || err != nil:
		return outcome, err
	case fault != Echo:
		return kv.Outcome{}, ErrFault
	case outcome.Done:
		return f.echo(ctx, outcome, writes)
	}
	return outcome, nil
}

// echo is the answer to the second attempt of a commit that has taken effect.
func (f *Faulty) echo(ctx context.Context, outcome kv.Outcome, writes []kv.Write) (kv.Outcome, error) {
	outcome.Done, outcome.Echo, outcome.Current = false, true, nil
	for _, w := range writes {
		entry, err := kv.Get(ctx, f.KV, w.Key, 0)
		if err != nil {
			return kv.Outcome{}, err
		}
		outcome.Current = append(outcome.Current, entry)
	}
	return outcome, nil
}
