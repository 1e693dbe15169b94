package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
)

// Options has facts that only the agent knows.
type Options struct {
	Log     *logrus.Entry
	Speaker bgp.Options      // of the first child; those that follow have restarted
	Command func() *exec.Cmd // makes the command of a child: it calls Serve with the connection that Inherited returns
	Stderr  io.Writer        // gets what the child logs
}

// Process is a Speaker in a child of this process. Its methods may be called from any goroutine.
type Process struct {
	options Options
	news    chan struct{}   // see News
	tried   context.Context // done when the first child has started, or could not be started
	try     context.CancelFunc
	over    chan struct{} // closed when no child runs any more
	cancel  context.CancelFunc

	patience time.Duration // for an answer of the child

	applying sync.Mutex // orders calls of Apply

	mu       sync.Mutex
	child    *connection // nil: none runs
	outage   error       // why none runs
	ended    time.Time   // the last child ended then
	why      string      // the last child ended
	want     calc.BGP
	applied  bool // want was given
	learned  map[netip.Prefix][]netip.Addr
	complete bool
	anew     bool                 // a child has started since TakeLearned was called
	up       map[string]time.Time // sessions of the present child, or of the last one
	suspects suspects
	limited  map[string]calc.Peer // peers that have sent too many routes, as they were wanted then
	replaced bool                 // the child is being ended to start another one for the next trial
	readings uint64               // of received routes
}

// New starts a child. It does not wait for it.
func New(o Options) *Process { return newProcess(o, patience) }

func newProcess(o Options, patience time.Duration) *Process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{
		options: o, news: make(chan struct{}, 1), over: make(chan struct{}), cancel: cancel, patience: patience,
		learned: map[netip.Prefix][]netip.Addr{}, outage: errors.New("the BGP process has not started yet"),
	}
	p.tried, p.try = context.WithCancel(ctx)
	go p.supervise(ctx)
	return p
}

// Close ends the child. It sends nothing: peers keep this node's routes for the restart time.
func (p *Process) Close() {
	p.cancel()
	<-p.over
}

// Apply is bgp.Speaker.Apply. While no child runs it returns an error; News delivers when one has started that needs Apply.
func (p *Process) Apply(want calc.BGP) error {
	<-p.tried.Done()
	p.mu.Lock()
	for name, peer := range want.Peers {
		if was, there := p.want.Peers[name]; there && !was.Equal(peer) {
			p.suspects.reopen(name)
		}
	}
	maps.DeleteFunc(p.limited, func(name string, then calc.Peer) bool {
		now, wanted := want.Peers[name]
		return !wanted || !bgp.SameSession(then, now)
	})
	p.want, p.applied = want, true
	p.mu.Unlock()
	return p.applyAgain()
}

// applyAgain brings the child to the state that was wanted last.
func (p *Process) applyAgain() error {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.mu.Lock()
	child, outage, want, applied, withheld := p.child, p.outage, p.want, p.applied, p.withheld()
	limited := slices.Sorted(maps.Keys(p.limited))
	p.mu.Unlock()
	switch {
	case child == nil:
		return outage
	case !applied:
		return nil
	}
	change := Change{Settings: want, Withheld: withheld, Level: p.options.Log.Logger.GetLevel()}
	if !child.told.Load() {
		change.Limited = limited
	}
	err := child.apply(change)
	child.told.Store(true)
	return err
}

// withheld returns the wanted peers that get no session for now.
func (p *Process) withheld() map[string]bgp.Withheld {
	list := map[string]bgp.Withheld{}
	for name := range p.want.Peers {
		if c, yes := p.suspects.closed[name]; yes {
			list[name] = bgp.Withheld{Why: fmt.Sprintf("a message of this peer ended the BGP process (%s), so its session is closed until %s: "+
				"update the peer's software, or filter the route there", c.why, c.until.Format(time.TimeOnly))}
		} else if p.suspects.isWaiting(name) {
			list[name] = bgp.Withheld{Soon: true, Why: fmt.Sprintf("a message of some peer ended the BGP process (%s), "+
				"and this one waits until others have been tried", p.suspects.why)}
		}
	}
	return list
}

// News delivers when TakeLearned may have something new, and when a child has started that needs Apply.
func (p *Process) News() <-chan struct{} { return p.news }

func (p *Process) signal() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// TakeLearned is bgp.Speaker.TakeLearned. anew says that a child has started since the last call: it knows nothing of former changes. A
// route that it has not announced when it is complete is gone.
func (p *Process) TakeLearned() (changed map[netip.Prefix][]netip.Addr, complete, anew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed, p.learned = p.learned, map[netip.Prefix][]netip.Addr{}
	anew, p.anew = p.anew, false
	return changed, p.complete, anew
}

// Status returns the wanted peers, sorted by name, also while no child runs.
func (p *Process) Status() []bgp.PeerStatus {
	var list []bgp.PeerStatus
	if err := p.ask(callStatus, none(true), &list); err != nil {
		return p.statusWithout(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range list {
		if list[i].LastError == "" && p.why != "" {
			list[i].LastError, list[i].ErrorAt = "the BGP process ended: "+p.why, p.ended
		}
	}
	return list
}

// statusWithout is the Status while no child answers.
func (p *Process) statusWithout(err error) (list []bgp.PeerStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.want.Peers)) {
		peer := p.want.Peers[name]
		list = append(list, bgp.PeerStatus{
			Name: name, Object: bgp.Called(name, peer), Address: peer.Address, AS: peer.AS, State: "Failed",
			Why: err.Error(), LastError: err.Error(), ErrorAt: p.ended,
		})
	}
	return list
}

// Announced is bgp.Speaker.Announced.
func (p *Process) Announced() (list []bgp.Announcement, err error) {
	err = p.ask(callAnnounced, none(true), &list)
	return list, err
}

// Running says whether the BGP server runs.
func (p *Process) Running() (running bool) {
	_ = p.ask(callRunning, none(true), &running)
	return running
}

// InUse is bgp.Speaker.InUse.
func (p *Process) InUse(missing []netip.Prefix, reached []netip.Addr) (counts map[netip.Addr]int) {
	_ = p.ask(callInUse, Kernel{missing, reached}, &counts)
	return counts
}

// RefreshPasswords is bgp.Speaker.RefreshPasswords.
func (p *Process) RefreshPasswords() (changed bool) {
	_ = p.ask(callPasswords, none(true), &changed)
	return changed
}

// ask calls the child that runs.
func (p *Process) ask(method string, arguments, answer any) error {
	p.mu.Lock()
	child, outage, applied := p.child, p.outage, p.applied
	p.mu.Unlock()
	switch {
	case child == nil:
		return outage
	case applied && !child.told.Load():
		return errStarting
	}
	return child.call(method, arguments, answer)
}
