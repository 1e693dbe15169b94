package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/ipam"
)

// newIPAM hands the commands of ipam what they may touch of a session.
func newIPAM(s *session) *cobra.Command {
	return ipam.New(ipam.Session{
		Stdout: s.stdout, Stderr: s.stderr, Now: s.now, NamesOf: s.namesOf,
		Version: func() string {
			version, _ := stamp()
			return version
		},
		Open: func(ctx context.Context) (ipam.Store, func(), error) { return s.open(ctx, s) },
	})
}
