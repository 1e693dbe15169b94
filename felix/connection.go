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

// connection connects to the datastore, however long that takes, and then checks every connectionInterval that it answers. The
// result is for status and the log only: the watch that feeds the loop reconnects by itself.
type connection struct {
	log    *logrus.Entry
	outage func() error // why the embedded etcd does not run; nil if it does, or if there is none

	mu        sync.Mutex
	first     bool // the first attempt has ended
	err       error
	endpoints func() []string // the connected ones; nil before the first answer
}

const (
	connectionInterval = 5 * time.Second
	connectionPatience = 3 * time.Second
	firstDial          = time.Second // between attempts, doubled up to the last
	lastDial           = 10 * time.Second
)

// dial tries until it is connected. It returns nil if ctx ends before.
func (c *connection) dial(ctx context.Context, config etcd.Config) *datastore.Store {
	config.Log, config.DialTimeout = c.log, connectionPatience
	for wait := firstDial; ; wait = min(2*wait, lastDial) {
		client, err := etcd.Dial(ctx, config)
		if err == nil {
			c.mu.Lock()
			c.endpoints = client.Endpoints
			c.mu.Unlock()
			// A tool that locks the datastore counts or moves its objects, so the agent must not write then.
			return datastore.New(client).WhileUnlocked()
		}
		config.DialTimeout = min(2*config.DialTimeout, lastDial) // the datastore may only be slow
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

// watch checks the datastore until ctx ends.
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
		return errors.New("etcd does not answer; policy in force stays as it is")
	}
	return err
}

// note keeps a result, and logs it if it differs from the one before.
func (c *connection) note(err error) {
	if outage := c.outage(); err != nil && outage != nil {
		err = outage
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && text(err) != text(c.err):
		c.log.WithError(err).Warn("the datastore is out of reach: policy in force stays as it is until it answers")
	case err == nil && c.err != nil:
		c.log.Info("the datastore answers")
	}
	c.first, c.err = true, err
}

// state says whether the datastore answers, at which endpoints, and why it does not.
func (c *connection) state() (connected bool, endpoints []string, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endpoints != nil {
		endpoints = c.endpoints()
	}
	err := c.err
	if outage := c.outage(); outage != nil { // it is known before the next check
		err = outage
	}
	return c.first && err == nil, endpoints, err
}
