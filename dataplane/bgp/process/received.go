package process

import (
	"errors"
	"sync"

	"github.com/margay-project/margay/dataplane/bgp"
)

// partLength is the most routes in one answer of the child. All answers come over one connection, and the loop of the agent must not wait
// for seconds while hundreds of thousands of routes come.
const partLength = 1000

// Part is the argument of Received: the number of a reading, and how many of its routes the agent has.
type Part struct {
	Reading uint64
	From    int
}

// Routes is the answer to Part.
type Routes struct {
	List []bgp.Received
	More bool
}

// Received is bgp.Speaker.Received.
func (p *Process) Received() (list []bgp.Received, err error) {
	p.mu.Lock()
	p.readings++
	reading := p.readings
	p.mu.Unlock()
	for {
		var routes Routes
		if err := p.ask(callReceived, Part{reading, len(list)}, &routes); err != nil {
			return nil, err
		}
		if list = append(list, routes.List...); !routes.More {
			return list, nil
		}
	}
}

// readings has, in the child, the routes that the agent has not read yet.
type readings struct {
	mu    sync.Mutex
	lists map[uint64][]bgp.Received
}

// part returns a part of a reading. For the first one it reads the routes.
func (r *readings) part(which Part, read func() ([]bgp.Received, error)) (Routes, error) {
	r.mu.Lock()
	list, begun := r.lists[which.Reading]
	r.mu.Unlock()
	switch {
	case which.From == 0:
		var err error
		if list, err = read(); err != nil {
			return Routes{}, err
		}
	case !begun:
		return Routes{}, errors.New("the BGP process was started again while its routes were read; try again")
	}
	some := list[:min(partLength, len(list))]
	list = list[len(some):]
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.lists, which.Reading); len(list) > 0 {
		if r.lists == nil {
			r.lists = map[uint64][]bgp.Received{}
		}
		r.lists[which.Reading] = list
	}
	return Routes{some, len(list) > 0}, nil
}
