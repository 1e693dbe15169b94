package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/ipam"
)

// newIPAM gives the commands of ipam the parts of a session that they use.
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
