package main

import (
	"context"
	"fmt"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/workload"
)

// workloads gives the commands about workloads the parts of a session that they use.
func (s *session) workloads() workload.Session {
	return workload.Session{
		Stdout: s.stdout, Stderr: s.stderr, Now: s.now, NamesOf: s.namesOf, Interfaces: s.links,
		Open:  func(ctx context.Context) (workload.Store, func(), error) { return s.open(ctx, s) },
		Retry: func(ctx context.Context, attempt func() error) error { return s.retry(ctx, false, attempt) },
		Warn: func(ctx context.Context, st workload.Store, written []api.Object) {
			for _, o := range written {
				for _, w := range api.OwnWarnings(o) {
					fmt.Fprint(s.stderr, warningLine(o, w))
				}
			}
			s.tellTraps(ctx, st.(store), written)
		},
		NodeHere: func(ctx context.Context, st workload.Store) (string, error) { return s.nodeName(ctx, st.(store)) },
	}
}
