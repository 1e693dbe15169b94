package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/dataplane/bgp/process"
	"github.com/margay-project/margay/datastore"
)

// agent has everything that the loop owns. Only the goroutine of run uses it.
type agent struct {
	log      *logrus.Entry
	settings *settings
	started  time.Time

	driver        *dataplane.Driver
	speaker       *process.Process
	reservations  *reservations
	registrar     *registrar
	reports       *nodeReports
	resumption    *resumption
	connection    *connection
	etcdAddresses *etcdAddresses

	graph *calc.Graph
	facts calc.Facts
	state calc.State // the sum of all deltas, without policies and sets

	inSync    bool  // the datastore has been read completely
	revision  int64 // newest revision that was read
	applied   int64 // newest revision that is in force
	appliedAt time.Time
	invalid   map[api.Key]string // objects whose stored value is not in force, and why
	claimed   map[api.Key]string // by WorkloadEndpoint of this node: the interface that it names
	blocks    *blocks
	asking    asking
	unplugged unplugged
	lookups   chan func(*agent) // questions of the reservations

	noted        datastore.AgentRecord // that was last handed to the registrar, for the next start
	nodeGone     bool                  // this node's Node object was deleted
	otherBooks   bool                  // endpoints, pools or blocks have changed since the reservations got them
	bgpError     error
	bgpChangedAt time.Time // of the last change of what BGP must do
	told         bool      // the speaker has what the datastore wants
	unsaved      bool      // what the next start needs has changed since it was saved
	failing      string    // the last logged errors of passes
}

func newAgent(log *logrus.Entry, s *settings, driver *dataplane.Driver, speaker *process.Process) *agent {
	boot, err := bootID()
	if err != nil {
		log.WithError(err).Warn("felix cannot read the boot id of the machine, so it saves no BGP state for a start without the datastore")
	}
	a := &agent{
		log: log, settings: s, started: time.Now(),
		driver: driver, speaker: speaker,
		reports:    newNodeReports(log, s.nodeName),
		resumption: newResumption(log, savedFile(s), s.nodeName, boot),
		connection: &connection{log: log.WithField("part", "datastore")},
		claimed:    map[api.Key]string{},
		blocks:     newBlocks(s.nodeName),
		asking:     asking{},
		unplugged:  unplugged{},
		lookups:    make(chan func(*agent)),

		etcdAddresses: newEtcdAddresses(log, s.datastore),
	}
	a.reservations = newReservations(log, s.nodeName, a.having)
	a.registrar = newRegistrar(log, s, a.etcdAddresses)
	driver.Protect(a.etcdAddresses.addresses())
	a.facts = a.readFacts()
	a.graph = calc.New(s.nodeName, a.facts)
	return a
}

// beginning is sent once the datastore answers: the record of this node's former agent, and the channel of changes.
type beginning struct {
	former  datastore.AgentRecord
	batches <-chan datastore.Batch
}

// serveDatastore connects to the datastore and does everything that needs its answers in the background, until ctx ends.
// The loop gets its changes over the channel that is sent to connected.
func (a *agent) serveDatastore(ctx context.Context, connected chan<- beginning) {
	store := a.connection.dial(ctx, a.settings.datastore)
	if store == nil {
		return
	}
	defer store.Close()
	// Register once before the first reading, so BGP starts with the values of the Node. The registrar tries again after a failure.
	if err := a.registrar.once(ctx, store); err != nil {
		a.log.WithError(err).Debug("node is not registered at once")
	}
	former := a.registrar.formerRecord(ctx, store)
	connected <- beginning{former, store.Watch(ctx, a.log.WithField("part", "datastore"))}
	var jobs sync.WaitGroup
	jobs.Go(func() { a.registrar.run(ctx, store) })
	jobs.Go(func() { a.reservations.run(ctx, store) })
	jobs.Go(func() { a.reports.run(ctx, store) })
	jobs.Go(func() { a.connection.watch(ctx, store) })
	jobs.Wait()
}

// run is the loop. It returns when ctx ends.
func (a *agent) run(ctx context.Context, connected <-chan beginning, questions <-chan func(*agent)) {
	a.closeEarly()
	var batches <-chan datastore.Batch // none before there is a connection
	retry, resume := time.NewTimer(time.Hour), time.NewTimer(resumeAfter)
	defer retry.Stop()
	defer resume.Stop()
	passwords := time.NewTicker(passwordInterval)
	defer passwords.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-connected:
			a.driver.RecallUplinks(c.former.Uplinks)
			batches = c.batches
			continue
		case batch, open := <-batches:
			if !open {
				return
			}
			a.receive(batch)
			a.pass()
		case <-a.speaker.News():
			a.learn()
			a.pass()
		case <-a.driver.Wake():
			a.noticeHost()
			a.pass()
		case <-a.etcdAddresses.news:
			a.driver.Protect(a.etcdAddresses.addresses())
			a.noticeHost()
			a.pass()
		case <-retry.C:
			a.pass()
		case <-resume.C:
			if a.resume() {
				resume.Reset(resumeAgain)
			}
		case <-passwords.C:
			if a.speaker.RefreshPasswords() {
				a.log.Info("a password of a BGP session has changed, or whether it can be read")
				a.pass()
			}
		case question := <-questions:
			question(a)
			continue
		case lookup := <-a.lookups:
			lookup(a)
			continue
		}
		if a.bgpError != nil {
			retry.Reset(bgpRetry)
		}
	}
}

// closeEarly makes the first pass, before anything is read from the datastore: interfaces with a workload's name are closed, unless
// a former process left policy in force there.
func (a *agent) closeEarly() {
	if err := a.driver.Apply(a.flush()); err != nil {
		a.log.WithError(err).Warn("interfaces of workloads may be open until the datastore has been read")
	}
}

// receive gives a batch to the calculation and to the blocks.
func (a *agent) receive(batch datastore.Batch) {
	for _, u := range batch.Updates {
		if a.isOwnNodeGone(u) {
			a.nodeGone = true
			continue // the former values hold until the Node is back: BGP sessions and routes of blocks depend on it
		}
		if a.isInformationGone(u) {
			u.Object = notReady()
		}
		a.graph.Update(u)
		switch u.Key.Kind {
		case api.KindIPAMBlock:
			a.otherBooks = true
			a.blocks.update(u)
		case api.KindWorkloadEndpoint: // of any node: an endpoint that left this node may have kept its address here
			a.otherBooks = true
			a.claim(u)
			a.asking.update(a.settings.nodeName, u)
			a.unplugged.update(a.settings.nodeName, u)
		case api.KindCalicoNodeStatus:
			a.reports.note(u)
		}
	}
	if batch.InSync && !a.inSync {
		a.inSync = true
		a.driver.InSync()
		a.log.WithField("revision", batch.Revision).Info("datastore is read completely")
	}
	if batch.Invalid != nil {
		a.invalid = batch.Invalid
	}
	a.revision = max(a.revision, batch.Revision)
}

func (a *agent) isOwnNodeGone(u api.Update) bool {
	return u.Key == api.Key{Kind: api.KindNode, Name: a.settings.nodeName} && u.Object == nil && u.Invalid == "" && a.inSync
}

// isInformationGone says that the datastore is being emptied, or that an empty one has replaced it: no tool deletes only the
// ClusterInformation.
func (a *agent) isInformationGone(u api.Update) bool {
	return u.Key == informationKey && u.Object == nil && u.Invalid == "" && a.inSync
}

var informationKey = api.Key{Kind: api.KindClusterInformation, Name: "default"}

// notReady returns a ClusterInformation that says that the datastore is not ready: nothing changes then.
func notReady() *api.ClusterInformation {
	ready := false
	return &api.ClusterInformation{
		TypeMeta: api.TypeMeta{Kind: informationKey.Kind, APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: informationKey.Name},
		Spec: api.ClusterInformationSpec{DatastoreReady: &ready},
	}
}

// claim notes the interface that an endpoint of this node names. After the operator has deleted the endpoint, the interface may
// become a workload's even if it was an uplink of the host before.
func (a *agent) claim(u api.Update) {
	ep, ok := u.Object.(*api.WorkloadEndpoint)
	if ok && ep.Spec.Node == a.settings.nodeName {
		a.claimed[u.Key] = ep.Spec.InterfaceName
		return
	}
	if name := a.claimed[u.Key]; name != "" && u.Object == nil && u.Invalid == "" {
		a.driver.ReleaseUplink(name)
	}
	delete(a.claimed, u.Key)
}

// noticeHost tells the calculation if the host's addresses, uplinks or sessions have changed.
func (a *agent) noticeHost() {
	facts := a.readFacts()
	if !slices.Equal(facts.Addresses, a.facts.Addresses) || !maps.Equal(facts.Uplinks, a.facts.Uplinks) ||
		!slices.Equal(facts.Sessions, a.facts.Sessions) {
		a.facts = facts
		a.graph.SetFacts(facts)
		a.registrar.look()
	}
}

// pass brings changes into force and tries again what failed before. Before the datastore has been read completely, and while it
// says that it is not ready, everything in force stays as it is.
func (a *agent) pass() {
	if !a.inSync {
		a.passResumed()
		return
	}
	err := a.driver.Apply(a.flush())
	if !a.state.Ready {
		a.passResumed()
		a.report(errors.New("the datastore is not ready (ClusterInformation default is missing, or has datastoreReady false): everything in force stays as it is until it is ready; margayctl datastore migrate unlock makes it ready"))
		return
	}
	if a.nodeGone {
		a.registrar.again()
		a.nodeGone = false
	}
	a.remember()
	a.bgpError = a.tell()
	if a.otherBooks {
		a.reservations.set(a.blocks.books(&a.state, a.asking, a.unplugged, a.graph.Having))
		a.otherBooks = false
	}
	a.applyLogLevel()
	a.giveBack()
	a.inForce(time.Now())
	a.report(errors.Join(err, a.bgpError))
}

// inForce notes the revision in force, and since when. A pass without a new revision changes neither.
func (a *agent) inForce(now time.Time) {
	if a.applied != a.revision || a.appliedAt.IsZero() {
		a.applied, a.appliedAt = a.revision, now
	}
}

// remember hands the registrar the record for the next start, if it has changed.
func (a *agent) remember() {
	if now := (datastore.AgentRecord{Uplinks: a.driver.Uplinks()}); !now.Equal(a.noted) {
		a.noted = now
		a.registrar.remember(now)
	}
}

// giveBack returns to the kernel the memory that only the first reading of the datastore needed.
func (a *agent) giveBack() {
	if a.appliedAt.IsZero() {
		debug.FreeOSMemory()
	}
}

// flush takes the next delta from the calculation. The agent keeps its own copy of the State for its answers, but without policies
// and sets: they may be large, and the driver has them.
func (a *agent) flush() calc.Delta {
	delta := a.graph.Flush()
	own := delta
	own.Policies, own.PoliciesGone, own.Sets, own.SetsGone = nil, nil, nil, nil
	a.state.Fold(own)
	if own.BGP != nil {
		a.bgpChangedAt = time.Now()
	}
	a.unsaved = a.unsaved || own.BGP != nil || own.Config != nil || len(own.Pools)+len(own.PoolsGone) > 0
	a.otherBooks = a.otherBooks || len(own.Endpoints)+len(own.EndpointsGone)+len(own.Pools)+len(own.PoolsGone) > 0
	return delta
}

// report logs the errors of a pass when they change, and when there are none any more.
func (a *agent) report(err error) {
	now := text(err)
	if now == a.failing {
		return
	}
	a.failing = now
	if err != nil {
		a.log.WithField("error", now).Warn("not everything is in force; felix tries again")
	} else {
		a.log.Info("everything is in force")
	}
}

// bgpRetry is the pause before the speaker tries again. The driver wakes the loop for its own failures.
const bgpRetry = 5 * time.Second

// passwordInterval is the time within which felix notices that the file of a password has changed. It reads the files again: editors and
// symbolic links replace files in too many ways for a watch.
const passwordInterval = 5 * time.Second

// applyLogLevel follows logSeverityScreen. If nothing sets it, the level is that of --log-level.
func (a *agent) applyLogLevel() {
	level, err := logrus.ParseLevel(cmp.Or(a.state.Config.ScreenLevel, a.settings.logLevel))
	if err == nil {
		a.log.Logger.SetLevel(level)
	}
}

// readFacts returns the facts about this host that the calculation needs.
func (a *agent) readFacts() calc.Facts {
	facts := a.driver.Facts()
	facts.Sessions = a.etcdAddresses.sessions()
	facts.Parameters = a.settings.parameters
	return facts
}
