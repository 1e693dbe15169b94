package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

// labelChange is one label to set or to remove.
type labelChange struct {
	key, value        string
	remove, overwrite bool
}

func newLabel(s *session) *cobra.Command {
	var at scope
	var change labelChange
	cmd := &cobra.Command{
		Use:   "label KIND NAME {KEY=VALUE | KEY --remove}",
		Short: "Set or remove one label of an object",
		Example: `  margayctl label hostendpoint node-a-eth0 rack=r1
  margayctl label node node-a rack=r2 --overwrite
  margayctl label node node-a rack --remove`,
		Args:              arguments.Exactly(3, "KIND NAME KEY=VALUE, or KIND NAME KEY --remove"),
		ValidArgsFunction: completeKind(s, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, value, hasValue := strings.Cut(args[2], "=")
			if hasValue == change.remove || key == "" {
				return errors.New("want KEY=VALUE to set a label, or KEY --remove to remove one")
			}
			change.key, change.value = key, value
			objects, err := at.named(args[0], args[1:2])
			if err != nil {
				return err
			}
			return s.label(cmd.Context(), args[0], objects[0], at, change)
		},
	}
	addNamespaceFlag(cmd, &at)
	cmd.Flags().BoolVar(&change.overwrite, "overwrite", false, "change the value of a label that exists")
	cmd.Flags().BoolVar(&change.remove, "remove", false, "remove the label")
	return cmd
}

func (s *session) label(ctx context.Context, kind string, o api.Object, at scope, change labelChange) error {
	if err := at.resolve(o); err != nil {
		return err
	}
	if err := notWritable("label", o); err != nil {
		return err
	}
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	var changed api.Object
	done, subject := "", kind+" "+o.Meta().Name
	err = s.retry(ctx, false, func() error {
		current, err := st.Get(ctx, api.KeyOf(o))
		if err != nil {
			return err
		}
		if done, err = change.applyTo(current.Meta(), subject); err != nil {
			return err
		}
		changed = current
		_, err = st.Update(ctx, current)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, done)
	s.tellTraps(ctx, st, []api.Object{changed})
	return nil
}

// applyTo changes the labels and says what it did, in calicoctl's words.
func (c labelChange) applyTo(meta *api.Metadata, subject string) (string, error) {
	value, exists := meta.Labels[c.key]
	switch {
	case c.remove && !exists:
		return "", fmt.Errorf("cannot remove label of %s, key %s does not exist", subject, c.key)
	case c.remove:
		delete(meta.Labels, c.key)
		return fmt.Sprintf("Successfully removed label %s from %s", c.key, subject), nil
	case exists && value != c.value && !c.overwrite:
		return "", fmt.Errorf("failed to update label of %s, key %s is already present. "+
			"please use '--overwrite' to set a new value", subject, c.key)
	}
	if meta.Labels == nil {
		meta.Labels = map[string]string{}
	}
	meta.Labels[c.key] = c.value
	if exists {
		return fmt.Sprintf("Successfully updated label %s on %s", c.key, subject), nil
	}
	return fmt.Sprintf("Successfully set label %s on %s", c.key, subject), nil
}
