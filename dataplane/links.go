package dataplane

import (
	"errors"
	"fmt"

	"github.com/margay-project/margay/bpf"
)

// running says which generation an interface runs, in which life of the interface. The zero value stands for a program that a
// former process attached or pinned.
type running struct {
	generation *generation
	life       uint64
}

// linkTarget is the table.Target for programs on interfaces. Put attaches a program, or swaps the one that is there.
type linkTarget struct{ d *Driver }

func (t linkTarget) Put(index int, want running) error {
	old := t.d.generations.attached[index]
	if old != nil && old.Live() {
		if err := t.d.step(fmt.Sprintf("swap interface %d", index)); err != nil {
			return err
		}
		if err := old.Swap(want.generation.Generation); err != nil {
			return err
		}
		t.d.epochPending = true
		return nil
	}
	if err := t.d.step(fmt.Sprintf("attach interface %d", index)); err != nil {
		return err
	}
	if old != nil {
		delete(t.d.generations.attached, index)
		if err := old.Close(); err != nil {
			t.d.Log.WithError(err).WithField("index", index).Warn("links of an interface that has gone were not closed")
		}
	}
	a, err := want.generation.Attach(t.d.PinDir, uint32(index))
	if err != nil {
		return err
	}
	t.d.generations.attached[index] = a
	t.d.epochPending, t.d.hooks.due = true, true
	return nil
}

func (t linkTarget) Delete(index int) error {
	if err := t.d.step(fmt.Sprintf("detach interface %d", index)); err != nil {
		return err
	}
	var err error
	if a := t.d.generations.attached[index]; a != nil {
		delete(t.d.generations.attached, index)
		err = a.Close()
	}
	err = errors.Join(err, bpf.Detach(t.d.PinDir, uint32(index)))
	if t.d.hooks.former[index] {
		err = errors.Join(err, t.d.takeOffFormer(index))
	}
	return err
}

func (t linkTarget) List() (map[int]running, error) {
	pinned, err := bpf.Attached(t.d.PinDir)
	if err != nil {
		return nil, err
	}
	found, err := t.d.hooks.Running(t.d.indexes())
	held := map[int]running{}
	for index := range pinned {
		held[int(index)] = running{}
	}
	for index := range found {
		held[int(index)] = running{}
		t.d.hooks.former[int(index)] = !pinned[index]
	}
	return held, err
}
