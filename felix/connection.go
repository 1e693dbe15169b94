package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
)

// connection connects to the datastore, however long that takes, and asks it from time to time whether it still answers.
// Its findings are for status and the log: the watch that feeds the loop reconnects by itself and stays silent
// meanwhile.
type connection struct {
	log    *logrus.Entry
	outage func() error // why the embedded etcd does not run; nil if it does, or if there is none

	mu        sync.Mutex
	first     bool // an answer, or its absence, is known
	err       error
	endpoints func() []string // that are connected to; nil before the first answer
}

const (
	connectionInterval = 5 * time.Second
	connectionPatience = 3 * time.Second
	firstDial          = time.Second // between attempts, doubled up to the last
	lastDial           = 10 * time.Second
)

// dial tries until it is connected; the result is nil when ctx ends before.
func (c *connection) dial(ctx context.Context, config etcd.Config) *datastore.Store {
	config.Log, config.DialTimeout = c.log, connectionPatience
	for wait := firstDial; ; wait = min(2*wait, lastDial) {
		client, err := etcd.Dial(ctx, config)
		if err == nil {
			c.mu.Lock()
			c.endpoints = client.Endpoints
			c.mu.Unlock()
			// Whoever locks the datastore counts or moves what is in it, so an agent has to keep its hands off.
			return datastore.New(client).WhileUnlocked()
		}
		config.DialTimeout = min(2*config.DialTimeout, lastDial) // it may only be slow
		if ctx.Err() != nil {
			return nil
		}
		c.note(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// watch asks until ctx ends.
func (c *connection) watch(ctx context.Context, store *datastore.Store) {
	tick := time.NewTicker(connectionInterval)
	defer tick.Stop()
	for {
		err := ask(ctx, store)
		if ctx.Err() != nil {
			return
		}
		c.note(err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func ask(ctx context.Context, store *datastore.Store) error {
	ctx, cancel := context.WithTimeout(ctx, connectionPatience)
	defer cancel()
	_, err := store.Get(ctx, informationKey)
	switch {
	case isError[datastore.NotFoundError](err):
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("etcd does not answer; what is in force stays")
	}
	return err
}

// note keeps an answer, and logs it when it says another thing than the one before.
func (c *connection) note(err error) {
	if outage := c.outage(); err != nil && outage != nil {
		err = outage
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && text(err) != text(c.err):
		c.log.WithError(err).Warn("the datastore is out of reach: nothing changes until it answers")
	case err == nil && c.err != nil:
		c.log.Info("the datastore answers")
	}
	c.first, c.err = true, err
}

// state is whether the datastore answers, where it is, if that is known already, and what is in the way.
func (c *connection) state() (connected bool, endpoints []string, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endpoints != nil {
		endpoints = c.endpoints()
	}
	err := c.err
	if outage := c.outage(); outage != nil { // known before the next question finds out
		err = outage
	}
	return c.first && err == nil, endpoints, err
}
