package main

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/dataplane/bgp/process"
	"github.com/margay-project/margay/datastore"
)

// nodeReports fills in the status of the CalicoNodeStatus objects of this node. It runs beside the loop: enforcement never waits
// for it.
type nodeReports struct {
	log       *logrus.Entry
	node      string
	questions chan<- func(*agent)
	wanted    map[api.Key]api.CalicoNodeStatus      // of this node; the loop's
	news      chan map[api.Key]api.CalicoNodeStatus // a copy of wanted, after a change
	failing   map[api.Key]string                    // the last logged error of each object
}

func newNodeReports(log *logrus.Entry, node string) *nodeReports {
	return &nodeReports{
		log: log, node: node,
		wanted: map[api.Key]api.CalicoNodeStatus{}, news: make(chan map[api.Key]api.CalicoNodeStatus, 1),
		failing: map[api.Key]string{},
	}
}

// note takes a change of a CalicoNodeStatus. The loop calls it.
func (r *nodeReports) note(u api.Update) {
	o, _ := u.Object.(*api.CalicoNodeStatus)
	before, was := r.wanted[u.Key]
	switch {
	case o != nil && o.Spec.Node == r.node && o.Spec.UpdatePeriodSeconds != nil:
		if was && reflect.DeepEqual(before.Spec, o.Spec) && !o.Status.LastUpdated.IsZero() {
			return // our own report; without the time, somebody has emptied the status
		}
		r.wanted[u.Key] = *o
	case was:
		delete(r.wanted, u.Key)
	default:
		return
	}
	wanted := make(map[api.Key]api.CalicoNodeStatus, len(r.wanted))
	for key, o := range r.wanted {
		wanted[key] = o
	}
	select {
	case <-r.news:
	default:
	}
	r.news <- wanted
}

// report is a CalicoNodeStatus to be filled in.
type report struct {
	spec    api.CalicoNodeStatusSpec
	version string    // of the object when it was last changed, but for reports
	due     time.Time // zero: not again
}

// reportAgain is the shortest pause after a failure.
const reportAgain = 10 * time.Second

// run writes reports until ctx ends.
func (r *nodeReports) run(ctx context.Context, store *datastore.Store) {
	reports := map[api.Key]report{}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case wanted := <-r.news:
			reports = schedule(reports, wanted, time.Now())
			maps.DeleteFunc(r.failing, func(key api.Key, _ string) bool { _, there := reports[key]; return !there })
		case <-timer.C:
		}
		next := time.Hour
		for key, rep := range reports {
			if !rep.due.IsZero() && !rep.due.After(time.Now()) {
				err := r.write(ctx, store, key)
				r.noteError(ctx, key, err)
				rep.due = afterReport(rep.spec, err, time.Now())
				reports[key] = rep
			}
			if !rep.due.IsZero() {
				next = min(next, time.Until(rep.due))
			}
		}
		timer.Reset(max(next, 0))
	}
}

// schedule returns when each wanted report is due. An object that is new, changed or without a status is reported at once, unless the
// former agent reported it less than its period ago.
func schedule(before map[api.Key]report, wanted map[api.Key]api.CalicoNodeStatus, now time.Time) map[api.Key]report {
	after := map[api.Key]report{}
	for key, o := range wanted {
		was, known := before[key]
		switch {
		case known && was.version == o.ResourceVersion:
			after[key] = was
		case known || o.Status.LastUpdated.IsZero():
			after[key] = report{o.Spec, o.ResourceVersion, now}
		default:
			after[key] = report{o.Spec, o.ResourceVersion, afterReport(o.Spec, nil, o.Status.LastUpdated.Time)}
		}
	}
	return after
}

// afterReport is when a report is due again. With a period of 0 an object is reported once.
func afterReport(spec api.CalicoNodeStatusSpec, err error, now time.Time) time.Time {
	period := time.Duration(*spec.UpdatePeriodSeconds) * time.Second
	switch {
	case err != nil:
		return now.Add(max(period, reportAgain))
	case period == 0:
		return time.Time{}
	}
	return now.Add(period)
}

// write fills in the status of an object, unless nothing has changed. It writes only if the object is as it was read; another writer's
// change leads to another attempt.
func (r *nodeReports) write(ctx context.Context, store *datastore.Store, key api.Key) error {
	ctx, cancel := context.WithTimeout(ctx, 3*connectionPatience)
	defer cancel()
	for {
		stored, err := store.Get(ctx, key)
		if isError[datastore.NotFoundError](err) {
			return nil
		}
		if err != nil {
			return err
		}
		o, ok := stored.(*api.CalicoNodeStatus)
		if !ok || o.Spec.Node != r.node {
			return nil // it was changed meanwhile
		}
		now, err := r.measure(ctx, o)
		if err != nil {
			return err
		}
		if !o.Status.LastUpdated.IsZero() && reflect.DeepEqual(now, o.Status) {
			return nil
		}
		o.Status, o.Status.LastUpdated = now, api.Time{Time: time.Now()}
		_, err = store.Update(ctx, o)
		if !isError[datastore.ConflictError](err) {
			return err
		}
	}
}

// measure asks the loop for the classes that an object wants.
func (r *nodeReports) measure(ctx context.Context, o *api.CalicoNodeStatus) (api.CalicoNodeStatusStatus, error) {
	loop := &server{questions: r.questions}
	var received []bgp.Received
	if slices.Contains(o.Spec.Classes, "Routes") {
		speaker, err := askLoop(ctx, loop, func(a *agent) (*process.Process, error) { return a.speaker, nil })
		if err != nil {
			return o.Status, err
		}
		if received, err = speaker.Received(); err != nil {
			return o.Status, err
		}
		received = firstReceived(received)
	}
	var routes []api.NodeRoute
	now, err := askLoop(ctx, loop, func(a *agent) (now api.CalicoNodeStatusStatus, err error) {
		now, routes, err = a.nodeStatus(o.Status, o.Spec.Classes, received)
		return now, err
	})
	if err == nil && slices.Contains(o.Spec.Classes, "Routes") {
		now.Routes = nodeRoutes(routes)
	}
	return now, err
}

// noteError logs an error of an object once. A locked datastore is no error.
func (r *nodeReports) noteError(ctx context.Context, key api.Key, err error) {
	if errors.Is(err, datastore.ErrLocked) || ctx.Err() != nil {
		return
	}
	now := text(err)
	if now != r.failing[key] && err != nil {
		r.log.WithError(err).WithField("object", key).Warn("the status of the node cannot be written; felix tries again")
	}
	r.failing[key] = now
}
