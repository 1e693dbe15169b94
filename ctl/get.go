package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/print"
	"github.com/margay-project/margay/datastore"
)

const getHelp = `Print objects by kind and name, or those named in files.

Formats (-o): ps (the default table), wide, yaml, json, custom-columns=NAME,SELECTOR, go-template=TEMPLATE and
go-template-file=FILE. The output of yaml and json is valid input of apply. --export leaves out fields that belong to this
datastore, such as uid.

-l SELECTOR prints only objects whose labels match; selectors are written as in policies. --watch then prints every change,
until the command is interrupted; with yaml and json, each change is one {type, object}.`

func newGet(s *session) *cobra.Command {
	var in input
	var at scope
	var output string
	var export, watch bool
	cmd := &cobra.Command{
		Use:   "get {KIND [NAME...] | -f FILE}",
		Short: "Print objects by kind and name, or those named in files",
		Long:  getHelp + "\n\nKinds:\n" + kindList(),
		Example: `  margayctl get gnp -o wide
  margayctl get hep -l "role == 'db' && has(rack)"
  margayctl get wep -A --watch
  margayctl get felixconfiguration default -o yaml`,
		ValidArgsFunction: completeKind(s, math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := print.ParseFormat(output, at.all || at.namespace != "")
			if err != nil {
				return err
			}
			wanted, err := s.objectsToGet(in, at, args)
			if err != nil {
				return err
			}
			if watch && len(args) == 0 {
				return errors.New("--watch needs a KIND")
			}
			if len(wanted) == 0 {
				return s.report(verb{}, outcome{})
			}
			chosen, err := s.chooser()
			if err != nil {
				return err
			}
			if chosen.selector != nil && len(args) != 1 {
				return errSelectorAndNames
			}
			if watch {
				return s.watch(cmd.Context(), wanted, at, f, chosen)
			}
			return s.get(cmd.Context(), wanted, at, f, chosen, export && len(args) > 1)
		},
	}
	in.addFlags(cmd)
	addNamespaceFlag(cmd, &at)
	cmd.Flags().BoolVarP(&at.all, "all-namespaces", "A", false, "objects of every namespace")
	cmd.Flags().BoolVarP(&at.all, "all", "a", false, "")
	cmd.Flags().Lookup("all").Hidden = true
	cmd.Flags().StringVarP(&output, "output", "o", "ps", "ps, wide, yaml, json, custom-columns=..., go-template=..., go-template-file=...")
	s.addSelectorFlag(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print changes until interrupted")
	cmd.Flags().BoolVar(&export, "export", false, "leave out fields that belong to this datastore, such as uid; only with NAME")
	return cmd
}

// kindList names each kind with its short form.
func kindList() string {
	var lines []string
	for _, k := range api.Kinds() {
		line := "  " + k.Plural
		if len(k.Aliases) > 0 {
			line += " (" + k.Aliases[0] + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func (s *session) objectsToGet(in input, at scope, args []string) ([]api.Object, error) {
	switch {
	case len(in.files) > 0 && len(args) > 0:
		return nil, errors.New("give either KIND and NAME or -f FILE, not both")
	case len(in.files) > 0:
		return s.load(in)
	case len(args) == 0:
		return nil, hints.With(errors.New("no objects are named: give KIND, KIND NAME, or -f FILE"), "kinds: "+strings.Join(pluralKinds(), ", "))
	}
	objects, err := at.named(args[0], args[1:])
	if err != nil && !slices.Contains(args[1:], "") {
		return nil, prefixed{"failed to get resources: ", err}
	}
	return objects, err
}

// prefixed puts words in front of an error and keeps its hints.
type prefixed struct {
	prefix string
	cause  error
}

func (p prefixed) Error() string { return p.prefix + p.cause.Error() }
func (p prefixed) Unwrap() error { return p.cause }

func pluralKinds() []string {
	var names []string
	for _, k := range api.Kinds() {
		names = append(names, k.Plural)
	}
	return names
}

// get prints the objects that it finds, then returns an error about those that it did not find.
func (s *session) get(ctx context.Context, wanted []api.Object, at scope, f print.Format, chosen chooser, export bool) error {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	asNumber := sync.OnceValue(func() string { return globalASNumber(ctx, st) })
	if len(wanted) == 1 {
		key, err := keyToGet(wanted[0], at)
		if err == nil && key.Name == "" {
			p, err := f.Pages(s.stdout, key.Kind, asNumber)
			if err != nil {
				return err
			}
			printed, err := printList(ctx, st, key, chosen, p)
			if err == nil && printed == 0 {
				s.sayElsewhere(ctx, st, key, chosen)
			}
			return err
		}
	}
	var found []print.Result
	var missing []string
	for _, o := range wanted {
		r, err := read(ctx, st, o, at)
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		if export {
			r.Strip()
		}
		found = append(found, r)
	}
	if len(found) > 0 {
		if err := f.Print(s.stdout, found, asNumber); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return errors.New(strings.Join(missing, "\n"))
	}
	return nil
}

// printList prints the chosen objects of a list while the datastore still reads it. It says how many it printed.
func printList(ctx context.Context, st store, key api.Key, chosen chooser, p print.Pages) (int, error) {
	begun, printed := false, 0
	err := eachPage(ctx, st, key, func(objects []api.Object, version string) error {
		begun = true
		objects = chosen.choose(objects)
		printed += len(objects)
		return p.Page(objects, version)
	})
	switch {
	case err == nil:
		return printed, p.End()
	case errors.Is(err, datastore.ErrCompacted):
		return printed, hints.With(err, "the printed list is not complete: etcd was compacted while it was read; run the command again")
	case begun:
		return printed, hints.With(err, "the printed list is not complete: run the command again")
	}
	return printed, err
}

// eachPage lists tiers in order of evaluation, for which all of them are read first, and objects of other kinds by key.
func eachPage(ctx context.Context, st store, key api.Key, visit func(objects []api.Object, version string) error) error {
	if key.Kind != api.KindTier {
		return st.EachPage(ctx, key.Kind, key.Namespace, visit)
	}
	tiers, version, err := st.List(ctx, key.Kind, "")
	if err != nil {
		return err
	}
	arrange(tiers)
	return visit(tiers, version)
}

// keyToGet returns the key of an object to get. Its name is empty if all objects of the kind are wanted.
func keyToGet(o api.Object, at scope) (api.Key, error) {
	err := at.resolve(o)
	nameWorkloadEndpoint(o)
	return api.KeyOf(o), err
}

// read gets one object, or lists all objects of the kind if o has no name.
func read(ctx context.Context, st store, o api.Object, at scope) (print.Result, error) {
	key, err := keyToGet(o, at)
	if err != nil {
		return print.Result{}, err
	}
	if key.Name == "" {
		list := print.Result{Kind: key.Kind, List: true}
		err := eachPage(ctx, st, key, func(objects []api.Object, version string) error {
			list.Objects, list.Revision = append(list.Objects, objects...), version
			return nil
		})
		return list, err
	}
	if at.all {
		return print.Result{}, errors.New("cannot use --all-namespace flag for getting a single resource")
	}
	found, err := st.Get(ctx, key)
	return print.Result{Kind: key.Kind, Objects: []api.Object{found}}, err
}

// arrange sorts tiers in order of evaluation, and leaves other objects in their order.
func arrange(objects []api.Object) {
	slices.SortStableFunc(objects, func(a, b api.Object) int {
		tierA, isTier := a.(*api.Tier)
		tierB, areTiers := b.(*api.Tier)
		if !isTier || !areTiers {
			return 0
		}
		return cmp.Compare(orderOf(tierA), orderOf(tierB))
	})
}

func orderOf(t *api.Tier) float64 {
	if t.Spec.Order == nil {
		return math.Inf(1)
	}
	return *t.Spec.Order
}

// globalASNumber returns the AS number of nodes that have none of their own: that of the BGPConfiguration default, else
// 64512. It is "unknown" if the datastore cannot be read.
func globalASNumber(ctx context.Context, st store) string {
	o, err := st.Get(ctx, api.Key{Kind: api.KindBGPConfiguration, Name: "default"})
	if err != nil && !isNotFound(err) {
		return "unknown"
	}
	if c, ok := o.(*api.BGPConfiguration); ok && c.Spec.ASNumber != nil {
		return strconv.FormatUint(uint64(*c.Spec.ASNumber), 10)
	}
	return "64512"
}
