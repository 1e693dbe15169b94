package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// connection asks the datastore from time to time whether it answers, for status: the watch that feeds the loop
// reconnects by itself and stays silent meanwhile.
type connection struct {
	store *datastore.Store

	mu    sync.Mutex
	first bool // an answer, or its absence, is known
	err   error
}

const (
	connectionInterval = 5 * time.Second
	connectionPatience = 3 * time.Second
)

func (c *connection) run(ctx context.Context) {
	tick := time.NewTicker(connectionInterval)
	defer tick.Stop()
	for {
		err := c.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.first, c.err = true, err
		c.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *connection) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectionPatience)
	defer cancel()
	_, err := c.store.Get(ctx, api.Key{Kind: "ClusterInformation", Name: "default"})
	switch {
	case isError[datastore.NotFoundError](err):
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("etcd does not answer; what is in force stays")
	}
	return err
}

func (c *connection) asked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

func (c *connection) problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
